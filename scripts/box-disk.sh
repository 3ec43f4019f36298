# shellcheck shell=bash disable=SC2016 # apt, mmdebstrap and the box expand what is quoted
# The contents of a box's disk, and how the disk is made. scripts/box sources this file; it is never run.
# The cache has tree-HASH, Debian as a folder, and disk-HASH, a disk with this Debian and the guest image.

packages=(
	systemd systemd-sysv libpam-systemd dbus-user-session udev kmod linux-image-cloud-amd64 initramfs-tools zstd
	iproute2 iputils-ping nftables tcpdump openvswitch-switch kea-dhcp4-server kea-dhcp6-server kea-ctrl-agent passt
	nix-bin qemu-system-x86 qemu-utils ovmf dosfstools mtools e2fsprogs xfsprogs btrfs-progs fdisk dmsetup
	python3 python3-venv openssh-server openssh-client ca-certificates git curl jq
	procps psmisc socat strace tmux less sudo
)

# Units that would run by themselves. Without them, a test finds the box as the last test left it.
masked=(
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
	systemd-networkd-wait-online.service serial-getty@ttyS0.service getty@tty1.service console-getty.service
	kea-dhcp4-server.service kea-dhcp6-server.service kea-ctrl-agent.service
)

# Runs a program of the box on this machine, with the speed of this machine.
within() { # TREE CMD...
	shown unshare --mount --pid --fork --mount-proc="$1/proc" chroot "$@"
}

hash_of() { cat "$@" | sha256sum | cut -c 1-16; }

cache=${XDG_CACHE_HOME:-$HOME/.cache}/virshle/box
tree=$cache/tree-$(hash_of scripts/box-disk.sh requirements.txt)
tiny=$cache/tiny-$(find virshle/image virshle/nix -type f -not -name '*.pyc' -print0 | sort -z | xargs -0 cat | hash_of -)
hypervisor=${VIRSHLE_TEST_CLOUD_HYPERVISOR:-$(command -v cloud-hypervisor || true)}

# The folder with a box's disk, kernel and initrd. Its name depends on everything that they are made from.
base_disk() { echo "$cache/disk-$(hash_of <(echo "$tree $tiny") ${hypervisor:+"$hypervisor"})"; }

make_base() { # DISK
	exec 8>"$cache/lock"
	flock 8
	[ -e "$tiny/image/tiny/result/" ] || make_tiny
	[ -d "$tree" ] || make_tree
	[ -d "$1" ] || make_disk "$1"
	touch "$tiny" "$tree" "$1"
	forget_old
	exec 8>&-
}

# Builds virshle's own guest image on this machine, in a separate state folder: a box has no network for the build.
make_tiny() {
	say "building the guest image tiny"
	VIRSHLE_STATE_DIR=$tiny VIRSHLE_RUN_DIR=$tiny/run shown .venv/bin/v image build tiny
}

make_tree() {
	local mirror
	[ "$(id -u)" = 0 ] || stop "only root can make a box's disk: sudo ./scripts/box up"
	mirror=$(debian_mirror)
	say "making a Debian host for the boxes"
	rm -rf "$tree.new"
	shown mmdebstrap --mode=root --format=directory --variant=minbase --include="$(IFS=, && echo "${packages[*]}")" \
		--essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"' \
		--essential-hook='echo MODULES=list >"$1/etc/initramfs-tools/conf.d/box"' \
		--essential-hook='printf "%s\n" virtio_pci virtio_blk ext4 >"$1/usr/share/initramfs-tools/modules.d/box"' \
		trixie "$tree.new" "$mirror"
	settle "$tree.new"
	shown .venv/bin/pip --disable-pip-version-check download -d "$tree.new/root/wheels" --require-hashes \
		--only-binary :all: --implementation cp --python-version 3.13 --abi cp313 --abi abi3 --abi none \
		--platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 -r requirements.txt
	cp requirements.txt "$tree.new/root/wheels"
	within "$tree.new" sh -euc '
		python3 -m venv /opt/virshle
		/opt/virshle/bin/pip install --no-index --find-links /root/wheels --require-hashes -r /root/wheels/requirements.txt
		ln -s /opt/virshle/bin/v /opt/virshle/bin/virshle /usr/local/bin
		rm -r /root/wheels'
	mv -T "$tree.new" "$tree"
}

settle() { # TREE: configures the host
	echo box >"$1/etc/hostname"
	echo '127.0.0.1 localhost box' >"$1/etc/hosts"
	echo '/dev/vda / ext4 noatime 0 1' >"$1/etc/fstab"
	# QEMU's user network, without DHCP, which takes seconds.
	printf '[Match]\nDriver=virtio_net\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' \
		>"$1/etc/systemd/network/10-box.network"
	printf 'MaxSessions 100\nMaxStartups 100\nUsePAM yes\nUseDNS no\n' >"$1/etc/ssh/sshd_config.d/box.conf"
	# Printed on the console when everything has started, so that scripts/box can wait for the line.
	printf '[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\nExecStart=sh -c "echo BOX-IS-UP >/dev/ttyS0"\n[Install]\nWantedBy=multi-user.target\n' \
		>"$1/etc/systemd/system/box-is-up.service"
	# An emulated boot takes twice as long if it must unpack modules. Also do the work of a first boot here.
	within "$1" sh -euc 'find /lib/modules -name "*.ko.xz" -exec unxz {} +; depmod "$(ls /lib/modules)"; update-initramfs -u
		systemd-machine-id-setup; ldconfig; systemd-sysusers; journalctl --update-catalog'
	within "$1" systemctl enable systemd-networkd ssh openvswitch-switch box-is-up
	within "$1" systemctl mask "${masked[@]}"
}

make_disk() { # DISK
	say "making the boxes' disk"
	rm -rf "$1.new" "$tree/nix" "$tree/var/lib/virshle" "$tree/usr/local/bin/cloud-hypervisor"
	mkdir "$1.new"
	[ -e "$cache/key" ] || ssh-keygen -q -t ed25519 -N '' -C box -f "$cache/key"
	install -D -m 600 "$cache/key.pub" "$tree/root/.ssh/authorized_keys"
	[ -z "$hypervisor" ] || install "$hypervisor" "$tree/usr/local/bin/cloud-hypervisor"
	import_tiny
	touch "$tree/etc/.updated" "$tree/var/.updated"
	cp -L "$tree/vmlinuz" "$tree/initrd.img" "$1.new"
	truncate -s 24G "$1.new/disk"
	mke2fs -q -t ext4 -d "$tree" "$1.new/disk"
	mv -T "$1.new" "$1"
}

import_tiny() { # puts the image where `v image build` would put it
	local path state=/var/lib/virshle/image/tiny
	path=$(readlink "$tiny/image/tiny/result")
	nix-store --option build-users-group "" --export "$path" | within "$tree" nix-store --import
	(umask 077 && mkdir -p "$tree$state" && cp "$tiny/image/tiny/image.json" "$tree$state")
	within "$tree" nix-store --realise --add-root "$state/result" "$path"
}

# Removes files that were not used for a week and that no box needs.
forget_old() {
	local old
	while IFS= read -r old; do
		grep -qsxF "$old" "$cache"/instance/*/base || rm -rf "$old"
	done < <(find "$cache" -maxdepth 1 \( -name 'tree-*' -o -name 'disk-*' -o -name 'tiny-*' \) -mtime +7)
}
