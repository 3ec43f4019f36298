# shellcheck shell=bash
# For the scripts in this folder: the programs that the machine must have, and the Python environment. The scripts
# source this file; it is never run.

# True if stderr is a terminal that can do more than print text.
drawn() { [ -t 2 ] && [ "${TERM-}" != dumb ]; }

say() {
	if drawn && [ -z "${NO_COLOR-}" ]; then printf '\033[1m%s\033[0m\n' "$*" >&2; else printf '%s\n' "$*" >&2; fi
}

# Each line has a program and, after the colon, its purpose. package() has the packages of the systems that we know.
needed_programs() {
	local qemu
	qemu=qemu-system-$(uname -m)
	printf '%s\n' \
		"$qemu: runs the VMs" \
		"nix: builds the guest image" \
		"mkfs.vfat: makes the disk with a guest's name and keys" \
		"mcopy: fills that disk" \
		"ssh: opens a shell in a guest" \
		"socat: presses the power button of a VM whose unit is stopped" \
		"flock: shows if a VM runs" \
		"firmware: boots images that have their own boot loader" \
		"venv: keeps virshle's Python packages in one folder" \
		"$@"
	if command -v cloud-hypervisor >/dev/null; then
		printf '%s\n' \
			"passt: is the network of VMs on cloud-hypervisor" \
			"curl: repeats requests to it that -vvv prints"
	fi
}

package() { # PROGRAM: prints its package on Debian and systems like it
	case $1 in
	qemu-system-x86_64) echo qemu-system-x86 ;;
	qemu-system-aarch64) echo qemu-system-arm ;;
	nix) echo nix-bin ;;
	mkfs.vfat) echo dosfstools ;;
	mcopy) echo mtools ;;
	ssh) echo openssh-client ;;
	firmware) if [ "$(uname -m)" = aarch64 ]; then echo qemu-efi-aarch64; else echo ovmf; fi ;;
	venv) echo python3-venv ;;
	sfdisk) echo fdisk ;;
	objcopy) echo binutils ;;
	mkfs.xfs) echo xfsprogs ;;
	mkfs.ext4) echo e2fsprogs ;;
	virsh) echo libvirt-clients ;;
	libvirtd) echo libvirt-daemon ;;
	libvirt-qemu) echo libvirt-daemon-driver-qemu ;;
	efi-stub) echo systemd-boot-efi ;;
	pkill | pgrep) echo procps ;;
	ss) echo iproute2 ;;
	mke2fs) echo e2fsprogs ;;
	qemu-img) echo qemu-utils ;;
	ssh-keygen) echo openssh-client ;;
	setpriv | flock) echo util-linux ;;
	*) echo "$1" ;;
	esac
}

there() {
	case $1 in
	firmware) [ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || [ -e /usr/share/OVMF/OVMF_CODE.fd ] || [ -e /usr/share/AAVMF/AAVMF_CODE.fd ] || [ -e /usr/share/edk2 ] ;;
	venv) "${PYTHON:-python3}" -c 'import venv, ensurepip' 2>/dev/null ;;
	libvirt-qemu) ls /usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so >/dev/null 2>&1 ;;
	efi-stub) ls /usr/lib/systemd/boot/efi/linux*.efi.stub >/dev/null 2>&1 ;;
	*) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
	esac
}

# Installs missing programs with the system's package manager, and says which and why. If it cannot, it lists them and
# exits.
ensure_programs() { # [PROGRAM: WHY]...
	local program why packages=()
	while IFS=: read -r program why; do
		there "$program" && continue
		say "missing: $program ($(package "$program")), which${why}"
		packages+=("$(package "$program")")
	done < <(needed_programs "$@")
	[ ${#packages[@]} -gt 0 ] || return 0
	if ! command -v apt-get >/dev/null; then
		say "this script does not know this system's package manager: install the programs above, then run this again"
		exit 1
	fi
	if [ "$(id -u)" != 0 ]; then
		say "install them, then run this again:  sudo apt-get install --no-install-recommends ${packages[*]}"
		exit 1
	fi
	say "installing: ${packages[*]}"
	export DEBIAN_FRONTEND=noninteractive
	shown apt-get -q update
	shown apt-get -q -y -o Dpkg::Use-Pty=0 install --no-install-recommends "${packages[@]}"
}

# Prints the mirror that this machine's own packages come from.
debian_mirror() {
	# shellcheck disable=SC2016 # apt expands it
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/$' && return
	say "this machine's apt has no Debian mirror"
	return 1
}

# Runs a long command. On a terminal it shows the last line of the output. If the command fails, it shows all lines.
shown() {
	local log code=0
	log=$(mktemp)
	if drawn; then
		"$@" 2>&1 | tee "$log" | while IFS= read -r line; do printf '\r\033[K  %.*s' 110 "$line" >&2; done || code=$?
		printf '\r\033[K' >&2
	else
		"$@" >"$log" 2>&1 || code=$?
	fi
	[ $code = 0 ] || cat "$log" >&2
	rm "$log"
	return $code
}

# Makes .venv with the locked packages and this checkout. Makes it again only if a lock file or the checkout's path
# changes.
ensure_venv() { # LOCKFILE
	grep -qsxF "$(stamp "$1")" .venv/stamp && return 0
	say "making the Python environment in .venv"
	"${PYTHON:-python3}" -m venv --clear .venv
	shown .venv/bin/pip --disable-pip-version-check install --require-hashes -r "$1"
	shown .venv/bin/pip --disable-pip-version-check install --no-build-isolation --no-deps -e .
	stamp "$1" >.venv/stamp
	# The packages for the tests include the packages that virshle needs.
	if [ "$1" = requirements-dev.txt ]; then stamp requirements.txt >>.venv/stamp; fi
}

stamp() { cat "$1" pyproject.toml <(pwd) | sha256sum; }
