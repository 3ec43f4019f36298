#!@busybox@/bin/busybox sh
# As NixOS's own init: makes the system of what is in the store, then goes on as systemd.
debian=@debian@
system=@system@

# All but sh's own is busybox's.
make() {
	mkdir -p dev etc proc root run sys tmp var
	chmod 700 root
	chmod 1777 tmp
	ln -s $debian/usr usr
	for name in bin sbin lib64; do ln -s usr/$name $name; done
	cp -a $debian/etc/. $system/etc/. etc/
	chmod -R u+w etc
	cp usr/share/base-passwd/passwd.master etc/passwd
	cp usr/share/base-passwd/group.master etc/group
	usr/bin/systemd-sysusers
	# What a first boot of Debian's does besides takes minutes where the processor is emulated.
	touch etc/.updated var/.updated
}

cd /
export PATH=/none
for name in mkdir chmod ln cp touch; do alias $name="@busybox@/bin/busybox $name"; done
[ -e etc/passwd ] || make
unset PATH
exec usr/lib/systemd/systemd
