from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.unit.support import FakeRequest, Held, record_of
from virshle.errors import HostError, TimedOutError
from virshle.plan import Contains, Gone, Greets, Replies


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (b"READY=1\n", True),
        (b"STATUS=x\nREADY=1\nMORE", True),
        (b"READY=1", True),
        (b"READY=10\n", False),
        (b"NOT_READY=1\n", False),
        (b"READY=1 \n", False),
        (b"", False),
        (b"\xff\xfe\nREADY=1\n", True),
    ],
)
def test_a_file_contains_a_whole_line(text: bytes, holds: bool, tmp_path: Path) -> None:
    (tmp_path / "ready").write_bytes(text)
    assert Contains(tmp_path / "ready", "READY=1").holds() is holds


def test_a_file_that_is_not_there_contains_nothing(tmp_path: Path) -> None:
    assert not Contains(tmp_path / "ready", "READY=1").holds()


def test_what_is_no_file_of_its_own_contains_nothing(tmp_path: Path) -> None:
    """The folder is the VMM's user's, who may be hostile."""
    (tmp_path / "elsewhere").write_text("READY=1\n")
    (tmp_path / "link").symlink_to("elsewhere")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    assert not any(Contains(tmp_path / name, "READY=1").holds() for name in ("link", "fifo", "folder"))


def test_gone_is_the_process_not_the_record(tmp_path: Path) -> None:
    record = tmp_path / "vmm.pid"
    assert Gone(record).holds()
    with Held(record):
        assert not Gone(record).holds()
        record.write_text("")  # whatever is in it
        assert not Gone(record).holds()
    record.write_text(record_of(os.getpid()))
    assert Gone(record).holds()


@pytest.mark.parametrize(
    ("error", "holds"), [(None, True), (HostError("refused"), False), (TimedOutError("busy"), False)]
)
def test_a_request_that_fails_is_no_reply(error: Exception | None, holds: bool) -> None:
    assert Replies(FakeRequest("status", [], error), "status").holds() is holds


def _server(monkeypatch: pytest.MonkeyPatch, says: bytes) -> list[tuple[str, int]]:
    asked: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        asked.append(address)
        near, far = socket.socketpair()
        with far:
            far.sendall(says)
        return near

    monkeypatch.setattr(socket, "create_connection", connect)
    return asked


@pytest.mark.parametrize(("says", "holds"), [(b"SSH-2.0-dropbear\r\n", True), (b"HTTP/1.1 400", False), (b"", False)])
def test_a_server_that_greets_is_there(says: bytes, holds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _server(monkeypatch, says)
    assert Greets(22001, "SSH-").holds() is holds
    assert asked == [("127.0.0.1", 22001)]


def test_a_port_that_refuses_does_not_greet(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refused)
    assert not Greets(22001, "SSH-").holds()
    assert Greets(22001, "SSH-").shell() == '[ "$(timeout 2 head -c4 </dev/tcp/127.0.0.1/22001 2>/dev/null)" = SSH- ]'
