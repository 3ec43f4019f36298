# shellcheck shell=bash
# Makes $out from the closure of the system $toplevel. This needs no VM, no root and no loop device.
#   closure   has store-paths and registration (nixpkgs: closureInfo)
#   boot      kernel or efi; for efi also espSize (MiB), efiArch (x64), systemd (has the boot loader), loader (seconds)
# shellcheck disable=SC2154 # the derivation sets them
set -euo pipefail

# Releases of e2fsprogs read one or the other. These and the ids are fixed, so that each build gives the same bytes.
export SOURCE_DATE_EPOCH=1 E2FSPROGS_FAKE_TIME=1
rootUuid=6e69786f-7300-4000-8000-766972736865
diskUuid=6e69786f-7300-4001-8000-766972736865
espUuid=6e69786f-7300-4002-8000-766972736865
espId=76697273

params() { echo "init=/nix/var/nix/profiles/system/init $(cat "$toplevel/kernel-params")"; }

tree() { # the root file system, as a folder
	mkdir -p root/nix/store root/nix/var/nix/profiles root/nix/var/nix/gcroots root/etc
	xargs cp -a --reflink=auto -t root/nix/store <"$closure/store-paths"
	touch root/etc/NIXOS
	# This is the first generation. `nixos-rebuild` makes the next ones.
	ln -s "$toplevel" root/nix/var/nix/profiles/system-1-link
	ln -s system-1-link root/nix/var/nix/profiles/system
	if [ "$boot" = kernel ]; then
		# The host still boots this kernel after the system has changed to another one. NixOS's kmod looks in
		# /lib/modules last, so it finds the modules there. The link in gcroots keeps them.
		mkdir root/lib
		ln -s "$(readlink -f "$toplevel/kernel-modules")" root/nix/var/nix/gcroots/virshle-kernel-modules
		ln -s /nix/var/nix/gcroots/virshle-kernel-modules/lib/modules root/lib/modules
	fi
	# Nix's database of its store: without it, Nix would fetch these paths again or delete them.
	NIX_REMOTE="local?root=$PWD/root" USER=nobody nix-store --load-db <"$closure/registration"
	sqlite3 root/nix/var/nix/db/db.sqlite "UPDATE ValidPaths SET registrationTime = $SOURCE_DATE_EPOCH"
	find root -path 'root/nix/store/*' -prune -o -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
}

root() { # FILE: makes an ext4 file system of the smallest size, with a little room
	local files bytes blocks
	files=$(find root | wc -l)
	bytes=$(du -s -B1 --apparent-size root | cut -f 1)
	# mkfs makes one inode for 16 KiB. The file has holes, and is cut later.
	truncate -s $((bytes * 5 / 4 + files * 16384 + (256 << 20))) "$1"
	# fakeroot shows root as the owner of all files that were made outside of it.
	fakeroot mkfs.ext4 -q -F -b 4096 -I 256 -i 16384 -L nixos -U "$rootUuid" -E "hash_seed=$rootUuid" -m 0 -d root "$1"
	e2fsck -pf "$1" || [ $? -lt 4 ]
	resize2fs -M "$1" >/dev/null
	blocks=$(dumpe2fs -h "$1" 2>/dev/null | sed -n 's/^Block count: *//p')
	truncate -s "$(((blocks * 4096 / (1 << 20) + 17) << 20))" "$1"
	resize2fs "$1" >/dev/null
	e2fsck -nf "$1"
}

esp() { # FILE: the files that systemd-boot installs, with the names that NixOS's installer uses and later cleans up
	local part file
	truncate -s "${espSize}M" "$1"
	mkfs.vfat --invariant -i "$espId" -F 32 -n ESP "$1" >/dev/null
	mkdir -p esp/EFI/BOOT esp/EFI/systemd esp/EFI/nixos esp/loader/entries
	file=$systemd/lib/systemd/boot/efi/systemd-boot$efiArch.efi
	cp "$file" "esp/EFI/systemd/"
	cp "$file" "esp/EFI/BOOT/BOOT${efiArch^^}.EFI"
	printf 'timeout %s\ndefault nixos-generation-1.conf\n' "$loader" >esp/loader/loader.conf
	{
		printf 'title NixOS\nsort-key nixos\nversion Generation 1\n'
		for part in kernel initrd; do
			file=$(readlink -f "$toplevel/$part")
			file=${file#/nix/store/}
			cp "/nix/store/$file" "esp/EFI/nixos/${file//\//-}.efi"
			[ "$part" = kernel ] && printf linux || printf initrd
			printf ' /EFI/nixos/%s.efi\n' "${file//\//-}"
		done
		echo "options init=$toplevel/init $(cat "$toplevel/kernel-params")"
	} >esp/loader/entries/nixos-generation-1.conf
	chmod -R u+w esp
	find esp -exec touch -hd @0 {} +
	MTOOLS_SKIP_CHECK=1 mcopy -smi "$1" esp/* ::
}

disk() { # FILE ESP ROOT: puts both into a disk with a GPT
	local start=2048 sectors
	sectors=$((espSize * 2048))
	truncate -s $(((start + sectors + 2048) * 512 + $(stat -c %s "$3"))) "$1"
	sfdisk --quiet "$1" <<-EOF
		label: gpt
		label-id: $diskUuid
		start=$start, size=$sectors, type=uefi, name=ESP, uuid=$espUuid
		start=$((start + sectors)), size=$(($(stat -c %s "$3") / 512)), type=linux, name=nixos, uuid=$rootUuid
	EOF
	dd if="$2" of="$1" bs=1M seek=1 conv=notrunc,sparse status=none
	dd if="$3" of="$1" bs=1M seek=$((1 + espSize)) conv=notrunc,sparse status=none
}

mkdir -p "$out"
tree
case $boot in
kernel)
	root "$out/disk.raw"
	cp -L "$toplevel/kernel" "$out/kernel"
	cp -L "$toplevel/initrd" "$out/initrd"
	params >"$out/cmdline"
	;;
efi)
	root root.img
	esp esp.img
	disk "$out/disk.raw" esp.img root.img
	;;
esac
