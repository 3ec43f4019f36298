# shellcheck shell=bash
# Do not wait long for a network: there may be no DHCP server.
for nic in "$NICS"/*/device; do
	[ -e "$nic" ] || continue
	"$WAIT_ONLINE" --any --timeout=10 || echo "no network yet"
	break
done

message=()
if [ -r "$HOST_KEY" ]; then
	message+=("X_VIRSHLE_SSH_HOST_KEY=$(cut -d ' ' -f 1,2 "$HOST_KEY")")
fi

address=$(cat "${CREDENTIALS_DIRECTORY:-/nonexistent}/vmm.notify_socket" 2>/dev/null || true)
case $address in
vsock-stream:*)
	# One connection, one message. If no process listens on the host, socat fails at once, and that is no problem. The
	# limit is long, because on an emulated processor a program may need seconds to begin.
	printf '%s\n' "${message[@]}" | timeout 60 socat -u - "VSOCK-CONNECT:${address#*:}" || echo "the host does not listen"
	;;
esac

# If no process reads the other end, a port blocks for ever.
if [ -e "$PORT" ]; then
	printf '%s\n' "${message[@]}" STATUS=Ready. READY=1 | timeout 60 tee "$PORT" >/dev/null
fi
