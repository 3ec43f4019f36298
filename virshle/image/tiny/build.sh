# The builder of tiny.nix. `busybox sh -eu` runs it, with the attributes of the derivation in the environment.
export LC_ALL=C TMPDIR=$PWD PATH=$PWD/applets
umask 022
"$builder" mkdir applets
"$builder" --install -s applets
root=$PWD/root initrd=$PWD/initrd
lib=$root/usr/lib

busybox_into() { # FOLDER
	local applet
	cp "$busybox/bin/busybox" "$1/"
	for applet in $("$builder" --list); do
		[ "$applet" = busybox ] || ln -s busybox "$1/$applet"
	done
}

program() { # FILE: puts it into the guest's PATH, in the place of the applet with that name
	rm -f "$root/usr/bin/${1##*/}"
	cp -L "$1" "$root/usr/bin/"
	chmod 755 "$root/usr/bin/${1##*/}"
}

skeleton() {
	mkdir -p "$root/usr/bin" "$root/usr/lib" "$root/usr/lib64" "$root/var/lib" "$root/etc"
	cd "$root"
	mkdir dev proc sys run tmp mnt root
	chmod 700 root
	chmod 1777 tmp
	# One folder of programs, with all its usual names.
	ln -s usr/bin bin
	ln -s usr/bin sbin
	ln -s bin usr/sbin
	ln -s usr/lib lib
	ln -s usr/lib64 lib64
	ln -s /run var/run
	ln -s /run/resolv.conf etc/resolv.conf
	cd "$OLDPWD"
}

scripts() {
	cp "$guest/etc/"* "$root/etc/"
	mkdir "$lib/tiny"
	cp "$guest/"*-* "$guest/init" "$guest/plugged" "$lib/tiny/"
	# Modes are set here, because a wheel or an archive may lose them.
	find "$root/etc" -type f -exec chmod 644 {} +
	chmod 600 "$root/etc/shadow"
	chmod 755 "$lib/tiny/"*
	rm -f "$root/usr/bin/init"
	ln -s ../lib/tiny/init "$root/usr/bin/init"
	mkdir -p "$root/etc/acpi/PWRF" "$root/etc/udhcpc" "$root/etc/dropbear"
	ln -s /usr/lib/tiny/power-button "$root/etc/acpi/PWRF/00000080"
	ln -s /usr/lib/tiny/dhcp-event "$root/etc/udhcpc/default.script"
}

# Copies the libraries whose names are in the bytes of the programs, then the libraries that these name, and so on. So
# it finds libraries that are linked and libraries that are loaded later. It needs no ELF reader, and works for a
# foreign architecture.
libraries() { # FILE...
	local file name found
	for file in "$@"; do
		strings "$file" | grep -oE '[A-Za-z0-9_.+-]+\.so[.0-9]*' | sort -u >names
		for name in $(cat names); do
			for found in "$libs/lib/$name" "$libs/lib64/$name" "$libs/lib/"*/"$name"; do
				[ -e "$found" ] || continue
				[ ! -e "$root${found#"$libs"}" ] || continue
				mkdir -p "$root/$(dirname "${found#"$libs"}")"
				cp -L "$found" "$root${found#"$libs"}"
				libraries "$found"
			done
		done
	done
}

closure_paths() {
	local file
	for file in closure-*; do
		[ -e "$file" ] || continue
		# The format: a path, its deriver, a count, and that many references. Only the paths exist as files.
		while read -r path; do
			case $path in
			/*.drv) ;;
			/*) [ -e "$root$path" ] || { mkdir -p "$root${path%/*}" && cp -R "$path" "$root$path"; } ;;
			esac
		done <"$file"
	done
}

kernel_modules() {
	local version from to kind name line file
	version=$(ls "$modules/lib/modules")
	from=$modules/lib/modules/$version to=$lib/modules/$version
	mkdir -p "$to" "$initrd/lib/modules/$version"
	if [ ! -s "$from/modules.dep" ]; then
		mkdir -p modules/lib/modules
		cp -R "$from" modules/lib/modules/
		chmod -R u+w modules
		depmod -b "$PWD/modules" "$version"
		from=$PWD/modules/lib/modules/$version
	fi
	while read -r kind name; do
		case $kind in boot | load | have) ;; *) continue ;; esac
		# The name of a module's file may have - in the place of _.
		line=$(grep -E "/$(echo "$name" | sed 's/_/[-_]/g')\.ko[.a-z]*:" "$from/modules.dep") || continue
		for file in $(echo "$line" | tr -d ':'); do
			keep "$from/$file" "$to/${file%.[xg]z}"
			[ "$kind" != boot ] || keep "$from/$file" "$initrd/lib/modules/$version/${file%.[xg]z}"
		done
		[ "$kind" = have ] || echo "$name" >>"$lib/tiny/modules-$kind"
	done <"$moduleList"
	for file in "$root/usr" "$initrd"; do
		# All files are named, in sorted order: without names, depmod writes its tables in the order of the file system.
		(cd "$file/lib/modules/$version" && depmod -b "$file" "$version" $(find . -name '*.ko' | sort))
		rm -f "$file/lib/modules/$version/modules.symbols"
	done
}

keep() { # FROM TO: copies one module and unpacks it, because the guest's busybox may be unable to
	[ ! -e "$2" ] || return 0
	mkdir -p "${2%/*}"
	case $1 in
	*.xz) unxz -c "$1" >"$2" ;;
	*.gz) gunzip -c "$1" >"$2" ;;
	*) cp "$1" "$2" ;;
	esac
}

skeleton
busybox_into "$root/usr/bin"
for file in "$dropbear/bin/dropbear" "$dropbear/bin/dropbearkey" "$dropbear/bin/dbclient" "$socat/bin/socat" \
	"$e2fsprogs/bin/resize2fs"; do
	program "$file"
	[ -z "${libs:-}" ] || libraries "$file"
done
closure_paths
scripts

mkdir -p "$initrd/bin" "$initrd/dev" "$initrd/proc" "$initrd/sys" "$initrd/root"
busybox_into "$initrd/bin"
cp "$guest/initrd-init" "$initrd/init"
chmod 755 "$initrd/init"
kernel_modules
cp "$lib/tiny/modules-boot" "$initrd/modules"

mkdir "$out"
sh -eu "$makeExt4" "$root" "$out/disk.raw"
sh -eu "$makeCpio" "$initrd" | gzip -9 >"$out/initrd"
cp -L "$kernel" "$out/kernel"
echo "$cmdline" >"$out/cmdline"
# The parts of the seed that the guest uses. virshle reads this when the user gives something for the seed.
echo "hostname authorized_keys users" >"$out/seed"
