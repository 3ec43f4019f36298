"""Into a guest without any network: a port of its vsock (vsock(7))."""

from __future__ import annotations

import re
import shlex
import socket
import time
from dataclasses import dataclass
from pathlib import Path

_LONGEST = 64
"""Bytes of the `OK PORT` line."""


@dataclass(frozen=True)
class Vsock:
    """A port of a guest. `path`: of the socket by which cloud-hypervisor multiplexes its guest's vsock (docs/vsock.md,
    Firecracker's way: `CONNECT PORT`, answered by `OK PORT` where somebody listens in the guest); without one, `cid` is
    the guest's number on this host."""

    cid: int
    port: int
    path: Path | None = None

    def connect(self, timeout: float) -> socket.socket:
        """A stream to it. Raises OSError where nobody listens, or not within `timeout` seconds."""
        family, address = (socket.AF_UNIX, str(self.path)) if self.path else (socket.AF_VSOCK, (self.cid, self.port))
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            deadline = time.monotonic() + timeout
            connection.connect(address)
            if self.path:
                self._ask(connection, deadline)
            connection.settimeout(timeout)
        except BaseException:
            connection.close()
            raise
        return connection

    def _ask(self, connection: socket.socket, deadline: float) -> None:
        connection.sendall(f"CONNECT {self.port}\n".encode())
        # Byte by byte: what the guest says first may follow at once.
        line = b""
        while not line.endswith(b"\n"):
            # Never 0, by which it would not wait at all.
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            byte = connection.recv(1)
            if not byte or len(line) > _LONGEST:
                raise ConnectionRefusedError(f"nobody listens on port {self.port} of the guest's vsock")
            line += byte
        if not line.startswith(b"OK "):
            raise ConnectionRefusedError(f"the guest's vsock said {line!r}")

    def shell(self) -> str:
        """A shell command whose stdin and stdout are the stream; ssh's ProxyCommand, say."""
        if self.path is None:
            return f"socat - VSOCK-CONNECT:{self.cid}:{self.port}"
        address = shlex.quote(f"UNIX-CONNECT:{escaped(self.path)}")
        ask = f"{{ echo CONNECT {self.port}; exec cat; }} | socat -t60 - {address} | {{ IFS= read -r _; exec cat; }}"
        return f"sh -c {shlex.quote(ask)}"


def escaped(path: Path) -> str:
    """As socat has it, whose addresses end at a comma or a colon, and in which quotes and brackets nest (socat(1),
    ADDRESS SPECIFICATIONS)."""
    return re.sub(r"""([\\,:!'"()\[\]{}])""", r"\\\1", str(path))
