"""The way into a guest without a network: a port of its vsock (vsock(7))."""

from __future__ import annotations

import re
import shlex
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from virshle.rpc import dial as dialer
from virshle.rpc.dial import dial


@dataclass(frozen=True)
class Vsock:
    """A port of a guest. `path`: cloud-hypervisor's socket for the guest's vsock. Without it, `cid` is the guest's
    number on this host."""

    cid: int
    port: int
    path: Path | None = None

    def connect(self, timeout: float) -> socket.socket:
        """A stream to the port. Raises OSError if no process listens, or if there is no answer within `timeout`
        seconds."""
        return dial(str(self.path) if self.path else self.cid, self.port, timeout)

    def proxy(self) -> str:
        """A shell command that gives the stream to ssh: the ProxyCommand, with ProxyUseFdpass. Words have only double
        quotes, because ssh splits the command into words before the shell does (OpenSSH: misc.c, argv_split)."""
        words = sys.executable or "python3", "-IS", dialer.__file__, str(self.path or self.cid), str(self.port)
        return " ".join(word if re.fullmatch(r"[\w@+=:,./-]+", word, re.ASCII) else _quoted(word) for word in words)

    def shell(self) -> str:
        """A shell command whose stdin and stdout are the stream."""
        if self.path is None:
            return f"socat - VSOCK-CONNECT:{self.cid}:{self.port}"
        address = shlex.quote(f"UNIX-CONNECT:{escaped(self.path)}")
        ask = f"{{ echo CONNECT {self.port}; exec cat; }} | socat -t60 - {address} | {{ IFS= read -r _; exec cat; }}"
        return f"sh -c {shlex.quote(ask)}"


def escaped(path: Path) -> str:
    """The path as a part of a socat address. In an address, commas and colons are separators, and quotes and brackets
    nest (socat(1), ADDRESS SPECIFICATIONS)."""
    return re.sub(r"""([\\,:!'"()\[\]{}])""", r"\\\1", str(path))


def _quoted(word: str) -> str:
    return '"' + re.sub(r'([\\"$`])', r"\\\1", word) + '"'
