# shellcheck shell=bash disable=SC2154 # they are the derivation's
# Makes $out with bzImage and lib/modules from the kernel's packages.
set -eu
mkdir tree applets
for deb in $debs; do dpkg-deb -x "$deb" tree; done
mkdir -p "$out"
cp tree/boot/vmlinuz-* "$out/bzImage"
cd tree/usr/lib/modules/*
version=${PWD##*/}
"$busybox/bin/busybox" depmod -b "$OLDPWD/tree/usr" "$version"

kept=$out/lib/modules/$version
for name in $wanted $(sed -n 's/^\(boot\|load\|have\) //p' "$list"); do
	# A module's file may be spelt with - for _. What the kernel has built in has no line.
	for file in $(grep -E "/${name//[-_]/[-_]}\.ko[.a-z]*:" modules.dep | tr -d :); do
		mkdir -p "$kept/${file%/*}"
		case $file in
		*.xz) "$busybox/bin/busybox" unxz -c "$file" >"$kept/${file%.xz}" ;;
		*) cp "$file" "$kept/$file" ;;
		esac
	done
done
cp modules.builtin modules.builtin.modinfo modules.order "$kept/"
# udev reads tables of a kind that only kmod writes: the guest's own, by its own loader.
libraries=$(echo "$debian"/usr/lib/*-linux-gnu)
loader=$(echo "$libraries"/ld-linux-*.so.?)
"$loader" --argv0 depmod --library-path "$libraries" "$debian/usr/bin/kmod" -b "$out" "$version"
