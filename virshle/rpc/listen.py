"""Receives the messages that a guest sends about itself (in the format of sd_notify(3)) to a vsock address."""

from __future__ import annotations

import os
import shlex
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM
from socket import socket as Socket
from threading import Thread
from typing import Any

from virshle import log
from virshle.fs import explained
from virshle.rpc.vsock import escaped

_MOST = 2**16
"""The largest message, and the largest file of messages, in bytes."""
_SILENCE = 2.0
"""After this many seconds without data, a message is complete: cloud-hypervisor before v53 does not report that the
guest closed its side of the connection."""


@dataclass(frozen=True)
class Listen:
    """Messages that arrive at `socket` are appended to `file`, as long as this process lives."""

    socket: Path
    file: Path

    def shell(self) -> str:
        address = f"UNIX-LISTEN:{escaped(self.socket)},fork,unlink-early,mode=666"
        return f"socat -u {shlex.quote(address)} {shlex.quote(f'OPEN:{escaped(self.file)},creat,append')} &"

    def send(self) -> dict[str, Any]:
        """Begins to listen. If another process listens already, that process goes on. Raises HostError."""
        log.command(self.shell())
        with explained("listen for the guest's messages"):
            if _somebody_listens(self.socket):
                return {}
            with suppress(FileNotFoundError):
                self.socket.unlink()
            listener = Socket(AF_UNIX, SOCK_STREAM)
            try:
                listener.bind(str(self.socket))
                _open_to_all(self.socket)
                listener.listen(8)
            except BaseException:
                listener.close()
                raise
        Thread(target=self._serve, args=(listener,), daemon=True).start()
        return {}

    def _serve(self, listener: Socket) -> None:
        while True:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    message = _message(connection)
                    # A process that only checks if somebody listens sends an empty message. systemd sends its status
                    # twice a second. In a slow boot these lines would leave no room for the important ones.
                    if any(not line.startswith(b"STATUS=") for line in message.splitlines()):
                        self._keep(message)

    def _keep(self, message: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(self.file, flags, 0o600)
        try:
            left = max(_MOST - os.fstat(handle).st_size, 0)
            os.write(handle, (message.rstrip(b"\n") + b"\n")[:left])
        finally:
            os.close(handle)


def _open_to_all(path: Path) -> None:
    """Lets the VMM's user, who may be another user, connect. Only that user can enter the folder.

    That user owns the folder and could replace the socket with a link to one of our files. chmod(2) follows links, so
    the mode is changed through a descriptor, and only if it is a socket."""
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if stat.S_ISSOCK(os.fstat(handle).st_mode):
            Path(f"/proc/self/fd/{handle}").chmod(0o666)
    finally:
        os.close(handle)


def _somebody_listens(path: Path) -> bool:
    with Socket(AF_UNIX, SOCK_STREAM) as probe, suppress(OSError):
        probe.settimeout(1)
        probe.connect(str(path))
        return True
    return False


def _message(connection: Socket) -> bytes:
    connection.settimeout(_SILENCE)
    message = b""
    with suppress(TimeoutError):
        while len(message) < _MOST and (block := connection.recv(4096)):
            message += block
    return message
