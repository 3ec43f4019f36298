"""How ssh gets its connection to a guest's vsock."""

from __future__ import annotations

import errno
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.unit.rpc.conftest import Serve, wait_for_end
from virshle.rpc import Vsock, dial

OK = b"OK 1073741824\n"


class Ssh(NamedTuple):
    reads: socket.socket
    output: int

    def connection(self) -> socket.socket:
        _, (handed,), _, _ = socket.recv_fds(self.reads, 1, 1)
        return socket.socket(fileno=handed)


@pytest.fixture
def ssh() -> Iterator[Ssh]:
    """What ssh reads, and what it gives the connector as its standard output (OpenSSH: sshconnect.c)."""
    reads, given = socket.socketpair()
    with reads, given:
        yield Ssh(reads, given.fileno())


def test_ssh_is_given_the_connection_itself(path: Path, serve: Serve, ssh: Ssh) -> None:
    def talk(connection: socket.socket) -> None:
        assert connection.recv(100) == b"CONNECT 22\n"
        connection.sendall(OK + b"SSH-2.0-x\r\n")
        wait_for_end(connection)

    serve(talk)
    assert dial.main(str(path), "22", ssh.output) == 0
    with ssh.connection() as connection:
        assert os.get_blocking(connection.fileno())  # as one that ssh made itself is
        assert connection.recv(100) == b"SSH-2.0-x\r\n"


@pytest.mark.parametrize("there", [False, True])
def test_where_no_vmm_is_that_is_said_at_once(
    there: bool, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if there:
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(path))
    monkeypatch.setattr("virshle.rpc.dial.time.sleep", lambda _: pytest.fail("nothing mends it"))
    assert dial.main(str(path), "22") == 255
    said = capsys.readouterr().err
    assert said.startswith(f"error: no connection to the VMM at {path}: ")
    assert "hint: `v info VM`" in said


@pytest.mark.parametrize("error", [dial.Unheard(111, "nobody listens"), TimeoutError(), ConnectionResetError(104, "x")])
def test_a_guest_that_boots_is_asked_again_and_not_for_ever(
    error: OSError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    asked: list[float] = []

    def refuse(_: object, __: int, timeout: float) -> socket.socket:
        asked.append(timeout)
        raise error

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(dial, "dial", refuse)
    monkeypatch.setattr("virshle.rpc.dial.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("virshle.rpc.dial.time.sleep", sleep)
    assert dial.main("/run/vsock", "22") == 255
    assert len(asked) > 10
    assert clock[0] <= dial.SECONDS
    assert max(asked) <= dial.SECONDS
    said = capsys.readouterr().err
    assert "error: no connection to port 22 of the guest's vsock within 10 s" in said
    assert "v start VM --wait" in said


def test_it_is_connected_once_the_guest_is_there(ssh: Ssh, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = socket.socketpair()
    refused = [dial.Unheard(errno.ECONNREFUSED, "not yet"), TimeoutError()]

    def answer(*_: object) -> socket.socket:
        if refused:
            raise refused.pop()
        return here

    monkeypatch.setattr(dial, "dial", answer)
    monkeypatch.setattr("virshle.rpc.dial.time.sleep", lambda _: None)
    with there:
        assert dial.main("7", "22", ssh.output) == 0
        ssh.connection().close()


def test_it_is_for_no_terminal_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = socket.socketpair()
    monkeypatch.setattr(dial, "dial", lambda *_: here)
    with there, (tmp_path / "file").open("w") as file:
        assert dial.main("7", "22", file.fileno()) == 255
    assert "is for ssh" in capsys.readouterr().err


@pytest.mark.parametrize("odd", ["a b", 'a"b', "a'b", "a\\b", "a\\'b", "a$HOME", "a${HOME}", "a`id`", "a#b #c", "a%hb"])
def test_its_command_is_words_to_the_shell_and_balanced_to_ssh(odd: str) -> None:
    path = Path(f"/r/{odd}/vsock")
    command = Vsock(3, 22, path).proxy()
    # A POSIX shell reads these escapes in double quotes, and shlex all but those of $ and `.
    words = shlex.split(re.sub(r"\\([$`])", r"\1", command))
    assert words == [sys.executable, "-IS", dial.__file__, str(path), "22"]
    assert command.startswith(f"{sys.executable} -IS ")


def test_on_the_hosts_own_vsock_it_is_a_number() -> None:
    assert Vsock(77, 22).proxy().endswith(f" {dial.__file__} 77 22")
