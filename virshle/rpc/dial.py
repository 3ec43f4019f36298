"""Connects to a port of a guest's vsock. It is also a program: ssh's ProxyCommand, with ProxyUseFdpass.

    python3 -IS dial.py PATH|CID PORT

The program passes the connection to ssh through its standard output and ends, so no process is between ssh and the
guest (ssh_config(5); OpenSSH: sshconnect.c, ssh_proxy_fdpass_connect; monitor_fdpass.c, mm_receive_fd). It imports
little, because each `v ssh` waits for it."""

import errno
import os
import signal
import socket
import sys
import time

SECONDS = 10.0
"""How long the guest is asked again: it may be booting, and its ssh server does not start first."""
_PAUSE = 0.2
_LONGEST = 64
"""Bytes of the `OK PORT` line."""
_GUEST = (errno.ECONNRESET, errno.ETIMEDOUT)
"""The errors of the host's vsock while a guest boots (vsock(7)). For any other error, waiting does not help."""


class Unheard(ConnectionRefusedError):
    """The VMM answers, but no process in the guest listens on the port."""


def dial(address: str | int, port: int, timeout: float) -> socket.socket:
    """A stream to that port. `address`: the guest's number on this host, or the path of cloud-hypervisor's socket for
    the guest's vsock. That socket follows Firecracker's protocol (cloud-hypervisor: docs/vsock.md): the request is
    `CONNECT PORT`, and the answer is `OK PORT` if a process in the guest listens.

    Raises OSError if no process listens, or if there is no answer within `timeout` seconds."""
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
    # Byte by byte: the guest's own data may follow at once, and must stay in the socket.
    line = b""
    while not line.endswith(b"\n"):
        # Never 0: that means no wait at all.
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        byte = connection.recv(1)
        if not byte or len(line) > _LONGEST:
            raise Unheard(errno.ECONNREFUSED, f"no process listens on port {port} of the guest's vsock")
        line += byte
    if not line.startswith(b"OK "):
        raise Unheard(errno.ECONNREFUSED, f"the guest's vsock said {line!r}")


def patiently(address: str | int, port: int, seconds: float) -> socket.socket:
    """Like `dial`, but asks again and again, because the guest may be booting. Raises OSError."""
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
    """Returns the exit code: 255 if there is no connection, like ssh. `output`: the descriptor that ssh reads."""
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
            sys.stderr.write(f"error: the connection is for ssh, but standard output is not ssh: {error.strerror}\n")
            return 255
    return 0


def _told(error: OSError, address: str, port: str) -> str:
    if isinstance(error, (Unheard, TimeoutError)) or error.errno in _GUEST:
        why = error.strerror if isinstance(error, Unheard) else "the guest does not answer"
        return (
            f"error: no connection to port {port} of the guest's vsock within {SECONDS:g} s: {why}\n"
            "hint: the guest may be booting, or may have no ssh server there: `v start VM --wait` waits for it, "
            "`v logs VM` shows its console\n"
        )
    return (
        f"error: no connection to the VMM at {address}: {error.strerror or error}\n"
        "hint: `v info VM` says if it runs, and `v doctor` says what is wrong\n"
    )


if __name__ == "__main__":
    # ssh gets Ctrl-C too, and prints its own message.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main(sys.argv[1], sys.argv[2]))
