# shellcheck shell=bash
# Takes the name and the keys from the host's disk SEED, at every boot. The files are only read as text, never run.
# On an emulated processor `udevadm settle` may reach its time limit. Then go on with the disks that are there.
udevadm settle || true
if [ ! -e "$SEED" ]; then
	echo "the host gave no seed"
	exit 0
fi
export MTOOLS_SKIP_CHECK=1

name=$(mtype -i "$SEED" ::meta-data |
	sed -n "s/^local-hostname:[[:space:]]*[\"']\{0,1\}\([A-Za-z0-9][A-Za-z0-9.-]\{0,62\}\)[\"']\{0,1\}[[:space:]]*\$/\1/p")
if [ -n "$name" ]; then
	echo "$name" >"$HOSTNAME_FILE"
fi

# Replace the file in one step: sshd may read it at any moment.
mkdir -p "${KEYS%/*}"
if mtype -i "$SEED" ::authorized_keys >"$KEYS.new"; then
	mv "$KEYS.new" "$KEYS"
else
	echo "no keys in the seed"
	rm -f "$KEYS.new"
fi
