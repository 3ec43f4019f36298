"""Connects to a port of a guest's vsock. As a program it does so for ssh, its ProxyCommand with ProxyUseFdpass:

    python3 -IS dial.py PATH|CID PORT

hands the connection to ssh by its standard output and ends: nothing stands between ssh and the guest (ssh_config(5);
OpenSSH: sshconnect.c, ssh_proxy_fdpass_connect; monitor_fdpass.c, mm_receive_fd). It imports little, as each `v ssh`
waits for it.
"""

import errno
import os
import signal
import socket
import sys
import time

SECONDS = 10.0
"""For which the guest is asked again: it may be booting, and the ssh server is not its first thing."""
_PAUSE = 0.2
_LONGEST = 64
"""Bytes of the `OK PORT` line."""
_GUEST = (errno.ECONNRESET, errno.ETIMEDOUT)
"""What a guest that boots answers on the host's own vsock (vsock(7)); all else will not be mended by waiting."""


class Unheard(ConnectionRefusedError):
    """The VMM is there, and nobody in the guest listens."""


def dial(address: str | int, port: int, timeout: float) -> socket.socket:
    """A stream to that port. `address`: the guest's number on this host; or the path of the socket by which
    cloud-hypervisor multiplexes its guest's vsock (docs/vsock.md, Firecracker's way: `CONNECT PORT`, answered by
    `OK PORT` where somebody listens in the guest). Raises OSError where nobody listens, or not within `timeout`
    seconds."""
    multiplexed = isinstance(address, str)
    connection = socket.socket(socket.AF_UNIX if multiplexed else socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        deadline = time.monotonic() + timeout
        connection.settimeout(timeout)
        connection.connect(address if isinstance(address, str) else (address, port))
        if multiplexed:
            _ask(connection, port, deadline)
        connection.settimeout(timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def _ask(connection: socket.socket, port: int, deadline: float) -> None:
    connection.sendall(f"CONNECT {port}\n".encode())
    # Byte by byte: what the guest says first may follow at once.
    line = b""
    while not line.endswith(b"\n"):
        # Never 0, by which it would not wait at all.
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        byte = connection.recv(1)
        if not byte or len(line) > _LONGEST:
            raise Unheard(errno.ECONNREFUSED, f"nobody listens on port {port} of the guest's vsock")
        line += byte
    if not line.startswith(b"OK "):
        raise Unheard(errno.ECONNREFUSED, f"the guest's vsock said {line!r}")


def patiently(address: str | int, port: int, seconds: float) -> socket.socket:
    """The same for a guest that may be booting: it is asked again. Raises OSError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return dial(address, port, max(deadline - time.monotonic(), 0.001))
        except OSError as error:
            boots = isinstance(error, (Unheard, TimeoutError)) or error.errno in _GUEST
            if not boots or time.monotonic() + _PAUSE >= deadline:
                raise
            time.sleep(_PAUSE)


def main(address: str, port: str, output: int = 1) -> int:
    """Its exit code; ssh's is 255 where it was given no connection. `output`: the descriptor that ssh reads."""
    try:
        connection = patiently(int(address) if address.isdecimal() else address, int(port), SECONDS)
    except OSError as error:
        sys.stderr.write(_told(error, address, port))
        return 255
    with connection:
        connection.setblocking(True)
        try:
            with socket.socket(fileno=os.dup(output)) as ssh:
                socket.send_fds(ssh, [b"\0"], [connection.fileno()])
        except OSError as error:
            sys.stderr.write(f"error: the connection is for ssh, which is not at standard output: {error.strerror}\n")
            return 255
    return 0


def _told(error: OSError, address: str, port: str) -> str:
    if isinstance(error, (Unheard, TimeoutError)) or error.errno in _GUEST:
        why = error.strerror if isinstance(error, Unheard) else "the guest does not answer"
        return (
            f"error: no connection to port {port} of the guest's vsock within {SECONDS:g} s: {why}\n"
            "hint: it may be booting, or have no ssh server there: `v start VM --wait` waits for it, `v logs VM` shows "
            "its console\n"
        )
    return (
        f"error: no connection to the VMM by {address}: {error.strerror or error}\n"
        "hint: `v info VM` says whether it runs, and `v doctor` what is wrong\n"
    )


if __name__ == "__main__":
    # Ctrl-C is ssh's as well, which says what there is to say.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main(sys.argv[1], sys.argv[2]))
