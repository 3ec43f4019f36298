#!@busybox@/bin/busybox sh
# shellcheck shell=dash disable=SC2239 # the system's maker fills in what is between the @
# What NixOS's initrd and init do: makes the system of what is in the store, then goes on as systemd.
debian=@debian@
system=@system@
root=@root@

b() { @busybox@/bin/busybox "$@"; }

first() {
	b mkdir -p dev etc proc root run sys tmp var/log/journal
	b chmod 700 root
	b chmod 1777 tmp
	b ln -s $debian/usr usr
	for name in bin sbin lib64; do b ln -s usr/$name $name; done
	# Where the host loads the kernel, the image has this link already.
	[ -e lib ] || b ln -s $system/kernel-modules/lib lib
	b cp -a $debian/etc/. $system/etc/. etc/
	b chmod -R u+w etc
	b cp usr/share/base-passwd/passwd.master etc/passwd
	b cp usr/share/base-passwd/group.master etc/group
	usr/bin/systemd-sysusers
	# What Debian does at a first boot takes long where the processor is emulated.
	b touch etc/.updated var/.updated
}

cd /
[ -e etc/.updated ] || first
b mount -t devtmpfs dev dev
b mount -t proc proc proc
b mount -t sysfs sys sys
# udev in NixOS's initrd leaves it, and growpart looks for it before udev is there again.
b mkdir -p "${root%/*}"
b ln -s "$(b findfs "LABEL=${root##*/}")" "$root"
exec usr/lib/systemd/systemd
