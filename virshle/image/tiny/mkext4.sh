#!/bin/sh
# mkext4.sh TREE IMAGE: makes a compact ext4 file system with the files of TREE. Root owns all files. The same TREE
# always gives the same bytes. Uses $mke2fs, $debugfs, $label, $uuid.
#
# Not mke2fs -d: it copies owner, order and times from the builder's file system (up to 1.47.0 also ctime and crtime,
# which cannot be set). debugfs makes the files one by one in sorted order, and then sets these fields of every inode.
set -eu
tree=$1 image=$2 work=${TMPDIR:-/tmp}/mkext4.$$
mkdir "$work"
# Releases of e2fsprogs read one or the other. Without it, the present time gets into the superblock and the inodes.
export E2FSPROGS_FAKE_TIME=1 SOURCE_DATE_EPOCH=1
# Not the host's mke2fs.conf, which would choose the features.
export MKE2FS_CONFIG=$work/mke2fs.conf
printf '[fs_types]\n%s = { \ninode_size = 256\n}\n%s = {\ninode_size = 256\n}\n' ext4 small >"$MKE2FS_CONFIG"

cd "$tree"
find . -mindepth 1 | LC_ALL=C sort >"$work/list"

blocks=0
while read -r path; do
	mode=$(printf %04d "$(stat -c %a "$path")") target=${path#.}
	if [ -L "$path" ]; then
		mode=0120777
		echo "symlink $target $(readlink "$path")" >>"$work/make"
	elif [ -d "$path" ]; then
		mode=04$mode blocks=$((blocks + 1))
		echo "mkdir $target" >>"$work/make"
	else
		mode=010$mode blocks=$((blocks + ($(stat -c %s "$path") + 4095) / 4096))
		echo "write $path $target" >>"$work/make"
	fi
	echo "$mode $target" >>"$work/modes"
done <"$work/list"
echo "040755 /" >>"$work/modes"
echo "040700 /lost+found" >>"$work/modes"

while read -r mode path; do
	echo "sif $path mode $mode"
	# Nanoseconds and the upper bits of the epoch come first: a newer debugfs sets them together with the seconds.
	for field in atime_extra ctime_extra mtime_extra crtime_extra uid gid generation; do
		echo "sif $path $field 0"
	done
	for field in atime ctime mtime crtime; do
		echo "sif $path $field @1"
	done
done <"$work/modes" >"$work/fields"

# 1024 blocks of journal (the minimum), the inodes and a little room, in whole MiB. The guest grows it at its first
# boot. 2048 inodes for each group of 128 MiB: the default is four times as many, which the guest writes when it grows.
size=$(((blocks + blocks / 50 + 1024 + 128 + 512 + 255) / 256))
truncate -s "${size}M" "$image"
"$mke2fs" -q -F -t ext4 -L "$label" -U "$uuid" -b 4096 -I 256 -N 2048 -m 0 -J size=4 \
	-O none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super \
	-O large_file,huge_file,dir_nlink,extra_isize,metadata_csum \
	-E "hash_seed=$uuid,lazy_itable_init=0,lazy_journal_init=0,nodiscard" "$image"
# debugfs exits with 0 even after a failure. It prints failures on stderr. If all is well, it prints only its own name.
cat "$work/make" "$work/fields" | "$debugfs" -w -f - "$image" >"$work/out" 2>"$work/err"
if grep -v '^debugfs 1' "$work/err"; then
	exit 1
fi
rm -r "$work"
