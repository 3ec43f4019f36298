from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from virshle.errors import HostError
from virshle.rpc import Listen, listen

PATIENCE = 30.0
"""Seconds that nothing takes."""


@pytest.fixture
def path() -> Path:
    return Path(os.environ["VIRSHLE_RUN_DIR"]) / "vsock_9000"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ready"


def _say(path: Path, text: bytes) -> None:
    """A guest's message, whole. When this returns it was kept, or passed over."""
    with socket.socket(socket.AF_UNIX) as guest:
        guest.settimeout(PATIENCE)
        guest.connect(str(path))
        guest.sendall(text)
        guest.shutdown(socket.SHUT_WR)
        assert guest.recv(1) == b""


def test_each_message_is_appended_in_lines(path: Path, file: Path) -> None:
    assert Listen(path, file).send() == {}
    _say(path, b"X_A=1\nREADY=1")
    assert file.read_bytes() == b"X_A=1\nREADY=1\n"
    _say(path, b"X_B=2\nSTATUS=up\n")
    assert file.read_bytes() == b"X_A=1\nREADY=1\nX_B=2\nSTATUS=up\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_long_boots_progress_leaves_room_for_its_end(path: Path, file: Path) -> None:
    Listen(path, file).send()
    for _ in range(30):
        _say(path, b"STATUS=User job systemd-growfs.service/start running " + b"x" * 4096)
    _say(path, b"READY=1")
    assert file.read_bytes() == b"READY=1\n"


def test_the_vmm_may_connect_whoever_it_runs_as(path: Path, file: Path) -> None:
    Listen(path, file).send()
    assert path.stat().st_mode & 0o777 == 0o666


def test_a_message_whose_end_never_comes_is_over_after_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_SILENCE", 0.05)
    guest, heard = socket.socketpair()
    with guest, heard:
        guest.sendall(b"READY=1\n")
        assert listen._message(heard) == b"READY=1\n"
        assert listen._message(heard) == b""


def test_a_second_listener_leaves_the_first_alone(path: Path, file: Path) -> None:
    Listen(path, file).send()
    other = file.with_name("other")
    assert Listen(path, other).send() == {}
    _say(path, b"READY=1\n")
    assert file.read_bytes() == b"READY=1\n"
    assert not other.exists()


def test_what_a_dead_listener_left_is_replaced(path: Path, file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    Listen(path, file).send()
    _say(path, b"READY=1\n")
    assert file.read_bytes() == b"READY=1\n"


def _link(file: Path) -> Path:
    target = file.with_name("target")
    target.write_text("precious")
    file.symlink_to(target)
    return target


def _fifo(file: Path) -> Path:
    os.mkfifo(file)
    return file


@pytest.mark.parametrize("put", [_link, _fifo])
def test_nothing_is_written_elsewhere_and_it_hears_on(put: Callable[[Path], Path], path: Path, file: Path) -> None:
    """The folder of the file is the VMM's user's, who may be hostile."""
    put(file)
    Listen(path, file).send()
    _say(path, b"A=1\n")
    file.rename(file.with_name("away"))
    _say(path, b"READY=1\n")
    assert file.read_bytes() == b"READY=1\n"
    if put is _link:
        assert file.with_name("target").read_text() == "precious"


def test_a_guest_that_talks_without_end_is_cut_off(path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_MOST", 1000)
    Listen(path, file).send()
    with socket.socket(socket.AF_UNIX) as guest:
        guest.connect(str(path))
        with pytest.raises(ConnectionError):
            while True:
                guest.sendall(b"READY=1\n" * 1000)
    _say(path, b"MORE=1\n")
    assert file.read_bytes() == b"READY=1\n" * 125


def test_where_it_cannot_listen_that_is_told(path: Path, file: Path) -> None:
    with pytest.raises(HostError, match="cannot listen for the guest's messages"):
        Listen(path.parent / "missing" / "s", file).send()


def test_the_same_by_socat() -> None:
    shell = Listen(Path("/r/a b,c/vsock_9000"), Path("/r/a b,c/ready")).shell()
    assert shlex.split(shell) == [
        *("socat", "-u", "UNIX-LISTEN:/r/a b\\,c/vsock_9000,fork,unlink-early,mode=666"),
        *("OPEN:/r/a b\\,c/ready,creat,append", "&"),
    ]
