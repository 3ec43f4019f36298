from __future__ import annotations

import itertools
import shlex
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.rpc.conftest import Serve, wait_for_end
from tests.unit.support import open_descriptors
from virshle.plan import GreetsVsock
from virshle.rpc import Vsock
from virshle.rpc.vsock import escaped

BANNER = b"SSH-2.0-OpenSSH_9.2\r\n"
OK = b"OK 1073741824\n"


def _saying(*parts: bytes, heard: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    """After the request, each part in a packet of its own; then it waits."""

    def talk(connection: socket.socket) -> None:
        request = connection.recv(100)
        if heard is not None:
            heard.append(request)
        for part in parts:
            connection.sendall(part)
        wait_for_end(connection)

    return talk


@pytest.mark.parametrize(
    "parts", [(OK, BANNER), (OK + BANNER,), (OK[:1], OK[1:] + BANNER)], ids=["apart", "at once", "in pieces"]
)
def test_what_follows_the_handshake_is_the_guests(parts: tuple[bytes, ...], path: Path, serve: Serve) -> None:
    heard: list[bytes] = []
    serve(_saying(*parts, heard=heard))
    with Vsock(3, 22, path).connect(30) as connection:
        said = b""
        while len(said) < len(BANNER) and (block := connection.recv(100)):
            said += block
    assert said == BANNER
    assert heard == [b"CONNECT 22\n"]


@pytest.mark.parametrize("answer", [b"", b"OK", b"NO 22\n", b"\n", b"OKAY\n", b"x" * 1000])
def test_without_an_ok_nobody_listens_there(answer: bytes, path: Path, serve: Serve) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(answer)

    before = open_descriptors()
    serve(talk)
    with pytest.raises(ConnectionRefusedError):
        Vsock(3, 22, path).connect(30)
    assert open_descriptors() <= before + 2  # the server's own


@pytest.mark.parametrize("parts", [(), (b"OK 1",)])
def test_one_that_does_not_answer_is_not_waited_for(parts: tuple[bytes, ...], path: Path, serve: Serve) -> None:
    serve(_saying(*parts))
    with pytest.raises(TimeoutError):
        Vsock(3, 22, path).connect(0.05)


def test_one_deadline_is_for_the_whole_handshake(path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, and takes a second of it."""
    seconds = itertools.count()
    monkeypatch.setattr("virshle.rpc.dial.time.monotonic", lambda: next(seconds))
    waits: list[float] = []
    real = socket.socket.settimeout

    def settimeout(self: socket.socket, timeout: float) -> None:
        if timeout != 30:  # the server's
            waits.append(timeout)
        real(self, 30)

    serve(_saying(OK))
    monkeypatch.setattr(socket.socket, "settimeout", settimeout)
    Vsock(3, 22, path).connect(10).close()
    # Where nothing is left, 0 would not wait at all and None for ever.
    assert waits == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, *[0.001] * (len(OK) - 9), 10]


@pytest.mark.parametrize("there", [False, True])
def test_a_vmm_that_is_gone_is_no_way_in(there: bool, path: Path) -> None:
    if there:
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(path))
    with pytest.raises(OSError, match="refused" if there else "No such file"):
        Vsock(3, 22, path).connect(30)


def test_without_a_socket_it_is_a_port_of_the_hosts_own_vsock(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[Any] = []

    class Fake:
        def __init__(self, family: int, kind: int) -> None:
            connected.append((family, kind))

        def settimeout(self, seconds: float) -> None:
            pass

        def connect(self, address: object) -> None:
            connected.append(address)

    monkeypatch.setattr("virshle.rpc.dial.socket.socket", Fake)
    Vsock(7, 22).connect(1)
    assert connected == [(socket.AF_VSOCK, socket.SOCK_STREAM), (7, 22)]
    assert Vsock(7, 22).shell() == "socat - VSOCK-CONNECT:7:22"


@pytest.mark.parametrize("odd", list("""\\,:!'"()[]{}"""))
def test_what_socat_would_read_for_itself_is_escaped(odd: str) -> None:
    assert escaped(Path(f"/r/a{odd}b/{odd}")) == f"/r/a\\{odd}b/\\{odd}"


@pytest.mark.parametrize("plain", list(" $&;*`#|=%?<>\né-_."))
def test_what_it_would_not_is_left_alone(plain: str) -> None:
    assert escaped(Path(f"/r/a{plain}b")) == f"/r/a{plain}b"


def test_the_same_by_socat_whatever_is_in_the_path() -> None:
    words = shlex.split(Vsock(3, 22, Path("/r/a b,c:d/vsock")).shell())
    assert words[:2] == ["sh", "-c"]
    asked, socat, rest = words[2].split(" | ")
    assert asked == "{ echo CONNECT 22; exec cat; }"
    # What it answers is passed over, what the guest says is not.
    assert rest == "{ IFS= read -r _; exec cat; }"
    assert shlex.split(socat) == ["socat", "-t60", "-", "UNIX-CONNECT:/r/a b\\,c\\:d/vsock"]


@pytest.mark.parametrize(
    ("parts", "holds"),
    [((OK + BANNER,), True), ((OK + b"220 smtp",), False), ((OK,), False), ((b"NO\n",), False)],
    ids=["ssh", "another server", "silent", "nobody"],
)
def test_a_server_in_the_guest_greets(
    parts: tuple[bytes, ...], holds: bool, path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Vsock.connect
    if not holds:
        monkeypatch.setattr(Vsock, "connect", lambda self, _: real(self, 0.05))
    serve(_saying(*parts))
    assert GreetsVsock(Vsock(3, 22, path), "SSH-").holds() is holds


def test_a_greeting_is_looked_for_by_the_shell_too() -> None:
    way = Vsock(3, 22, Path("/r/vsock"))
    shell = GreetsVsock(way, "SSH-").shell()
    assert way.shell() in shell
    assert shell.endswith('| head -c4)" = SSH- ]')
