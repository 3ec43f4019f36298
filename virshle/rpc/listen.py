"""Hears what a guest says of itself, as sd_notify(3) has it, on a vsock address that it was told."""

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
"""Bytes of one message, and of all that is kept."""
_SILENCE = 2.0
"""Seconds after which a message is over whose end does not come: versions of cloud-hypervisor before 53 do not pass on
that one side has said all."""


@dataclass(frozen=True)
class Listen:
    """From now on, and as long as this process lives, messages that arrive at `socket` are appended to `file`."""

    socket: Path
    file: Path

    def shell(self) -> str:
        address = f"UNIX-LISTEN:{escaped(self.socket)},fork,unlink-early,mode=666"
        return f"socat -u {shlex.quote(address)} {shlex.quote(f'OPEN:{escaped(self.file)},creat,append')} &"

    def send(self) -> dict[str, Any]:
        """Begins. Raises HostError. Where another process listens already, it does."""
        log.command(self.shell())
        with explained("listen for what the guest says"):
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
                    # Who only looks whether somebody listens says nothing. systemd tells twice a second what it waits
                    # for, which in a slow boot would leave no room for what matters.
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
    """The folder lets in nobody but the VMM's user, who may not be us. As it is that user's folder, what has the name
    may have become a link to a file of ours since, whose mode it must not be (chmod(2) follows links)."""
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
