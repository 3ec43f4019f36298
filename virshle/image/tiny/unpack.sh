# The builder of debian.nix. `busybox sh -eu` runs it. It takes the needed files out of $debs.
export LC_ALL=C
umask 022

mkdir tree
for deb in $debs; do
	dpkg-deb -x "$deb" tree
done
mkdir -p "$out"

kernel() {
	# Since trixie it is usr/lib. Sorted names: the debug variant of a kernel would come later.
	mkdir "$out/lib"
	for folder in tree/lib/modules tree/usr/lib/modules; do
		[ ! -d "$folder" ] || cp -R "$folder" "$out/lib/"
	done
	# The kernel of aarch64 may be one compressed file, which only a boot loader can read.
	gunzip -c tree/boot/vmlinu[xz]-* >"$out/kernel" 2>/dev/null || cp tree/boot/vmlinu[xz]-* "$out/kernel"
	# The table of dependencies is made once here, not for every image. Sorted: see build.sh.
	mkdir work
	cp -R "$out/lib" work/
	cd "$out/lib/modules/"*
	depmod -b "$OLDPWD/work" "${PWD##*/}" $(find . -name '*.ko*' | sort)
	cp "$OLDPWD/work/lib/modules/"*/modules.dep .
	cd "$OLDPWD"
}

programs() {
	mkdir -p "$out/bin" "$out/tools" "$out/libs/lib" "$out/libs/lib64"
	for file in tree/bin/* tree/sbin/* tree/usr/bin/* tree/usr/sbin/*; do
		case ${file##*/} in
		dropbear | dropbearkey | dbclient | socat | resize2fs | mke2fs | debugfs) cp -L "$file" "$out/bin/" ;;
		esac
	done
	for folder in tree/lib tree/usr/lib; do
		for file in "$folder/"*-linux-gnu*/*.so* "$folder/"ld-linux*; do
			target=$out/libs/lib/${file#"$folder/"}
			[ -e "$file" ] || [ -L "$file" ] || continue
			mkdir -p "${target%/*}"
			cp -P "$file" "$target"
		done
	done
	# The well-known path of the loader is a link, which may be absolute or lead out of this folder.
	loader=$(find "$out/libs/lib" -type f -name 'ld-linux*' -o -type f -name 'ld-2*' | head -n 1)
	for link in tree/lib64/ld-linux* tree/usr/lib64/ld-linux* tree/lib/ld-linux* tree/usr/lib/ld-linux*; do
		[ -L "$link" ] || continue
		case $link in
		*/lib64/*) target=$out/libs/lib64 ;;
		*) target=$out/libs/lib ;;
		esac
		rm -f "$target/${link##*/}"
		cp "$loader" "$target/${link##*/}"
	done
	# These tools use nothing of the host: they run with their own loader and their own libraries.
	for tool in mke2fs debugfs; do
		printf '#!%s sh\nexec %s --library-path %s %s "$@"\n' \
			"$busybox/bin/busybox" "$loader" "${loader%/*}" "$out/bin/$tool" >"$out/tools/$tool"
		chmod 755 "$out/tools/$tool"
	done
}

"$step"
