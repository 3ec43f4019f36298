#!/bin/sh
# newc.sh TREE: writes a cpio archive (newc) of TREE to stdout. The same TREE always gives the same bytes.
#
# cpio itself writes the numbers of stat: owner, inode and link count. The link count of a folder differs between file
# systems: the number of its children, or 1. So this script writes the headers. Then device nodes need no root, too.
set -eu
cd "$1"
inode=0
pad='\0\0\0\0'

zeroes() { # COUNT (0 to 3)
	printf "$(printf %s "$pad" | head -c $(($1 * 2)))"
}

entry() { # NAME MODE SIZE
	inode=$((inode + 1))
	printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X' \
		$inode "$2" 0 0 1 1 "$3" 0 0 ${4:-0} ${5:-0} $((${#1} + 1)) 0
	printf '%s\0' "$1"
	zeroes $(((4 - (110 + ${#1} + 1) % 4) % 4))
}

find . -mindepth 1 | LC_ALL=C sort >"${TMPDIR:-/tmp}/newc.$$"
while read -r path; do
	name=${path#./}
	if [ -L "$path" ]; then
		target=$(readlink "$path")
		entry "$name" $((0120777)) ${#target}
		printf %s "$target"
		zeroes $(((4 - ${#target} % 4) % 4))
	elif [ -d "$path" ]; then
		entry "$name" $((0040755)) 0
	else
		size=$(stat -c %s "$path")
		mode=0100644
		[ ! -x "$path" ] || mode=0100755
		entry "$name" $((mode)) "$size"
		cat "$path"
		zeroes $(((4 - size % 4) % 4))
	fi
done <"${TMPDIR:-/tmp}/newc.$$"
rm "${TMPDIR:-/tmp}/newc.$$"
entry dev/console $((0020600)) 0 5 1
entry 'TRAILER!!!' 0 0
