"""HTTP over a unix socket, with one deadline for the whole exchange."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType


@contextmanager
def explained() -> Iterator[None]:
    """Turns errors of HTTP itself into OSError, like all other errors."""
    try:
        yield
    except http.client.RemoteDisconnected:
        # This is already an OSError, and it is not an error of the protocol: the server closed the connection.
        raise
    except http.client.HTTPException as error:
        raise OSError(f"it does not speak HTTP ({error!r})") from error


class _Bounded(socket.socket):
    """A socket whose waits end at the deadline."""

    deadline: float

    def recv_into(self, *arguments: object, **more: object) -> int:
        self._bound()
        return super().recv_into(*arguments, **more)  # type: ignore[arg-type]

    def sendall(self, *arguments: object, **more: object) -> None:
        self._bound()
        super().sendall(*arguments, **more)  # type: ignore[arg-type]

    def _bound(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost")
        self._path = path
        self._deadline = time.monotonic() + timeout

    def connect(self) -> None:
        self.sock = _Bounded(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.deadline = self._deadline
        self.sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
        self.sock.connect(str(self._path))

    def __enter__(self) -> UnixConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
