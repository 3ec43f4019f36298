# shellcheck shell=bash
# A network that takes long is not waited for: there may be no DHCP at all.
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
	# One connection, one message. Where nobody listens it is not heard, and that is all: at once, but a program alone may
	# take seconds to begin where the processor is emulated.
	printf '%s\n' "${message[@]}" | timeout 60 socat -u - "VSOCK-CONNECT:${address#*:}" || echo "the host does not listen"
	;;
esac

# A port whose other end nobody reads blocks for ever.
if [ -e "$PORT" ]; then
	printf '%s\n' "${message[@]}" STATUS=Ready. READY=1 | timeout 60 tee "$PORT" >/dev/null
fi
