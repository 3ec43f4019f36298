"""A server on a unix socket, which does with its one client what a test says."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

Talk = Callable[[socket.socket], None]
Serve = Callable[[Talk], None]


@pytest.fixture
def path() -> Path:
    return Path(os.environ["VIRSHLE_RUN_DIR"]) / "s.sock"


@pytest.fixture
def serve(path: Path) -> Iterator[Serve]:
    with socket.socket(socket.AF_UNIX) as listener:
        threads: list[Thread] = []

        def run(talk: Talk) -> None:
            connection, _ = listener.accept()
            connection.settimeout(30)
            # The client may have had enough at any moment.
            with connection, suppress(ConnectionError):
                talk(connection)

        def start(talk: Talk) -> None:
            listener.bind(str(path))
            listener.listen()
            listener.settimeout(30)
            threads.append(Thread(target=run, args=(talk,)))
            threads[-1].start()

        yield start
        for thread in threads:
            thread.join()


def wait_for_end(connection: socket.socket) -> None:
    """Until the client closes."""
    while connection.recv(4096):
        pass
