from __future__ import annotations

import json
import shlex
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.rpc.conftest import Serve, wait_for_end
from tests.unit.support import open_descriptors
from virshle import log
from virshle.errors import HostError, TimedOutError
from virshle.rpc import Http

JSON = b"Content-Type: application/json\r\n"
LOCKED = [
    "Error from API",
    "The VM could not boot",
    "Error from device manager",
    "Cannot open disk path",
    "The file /s/disk/os is already locked",
]


def _heard(connection: socket.socket) -> bytes:
    """One whole request."""
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard += connection.recv(1)
    length = [int(line[16:]) for line in heard.splitlines() if line.lower().startswith(b"content-length: ")]
    for size in length:
        while not heard.partition(b"\r\n\r\n")[2][size - 1 :] and size:
            heard += connection.recv(4096)
    return heard


def _answering(status: str, body: bytes = b"", heard: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        request = _heard(connection)
        if heard is not None:
            heard.append(request)
        length = b"" if status.startswith("204") else b"Content-Length: %d\r\n" % len(body)
        connection.sendall(f"HTTP/1.1 {status}\r\nServer: Cloud Hypervisor API\r\n".encode())
        connection.sendall(b"Connection: keep-alive\r\n" + (JSON if body else b"") + length + b"\r\n" + body)
        wait_for_end(connection)

    return talk


def test_what_it_answers_is_told(path: Path, serve: Serve) -> None:
    heard: list[bytes] = []
    serve(_answering("200 OK", b'{"version": "v53.0"}', heard))
    assert Http(path, "vmm.ping", method="GET").send() == {"version": "v53.0"}
    lines = heard[0].decode().split("\r\n")
    assert lines[0] == "GET /api/v1/vmm.ping HTTP/1.1"
    assert not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines)


def test_success_may_have_no_body(path: Path, serve: Serve) -> None:
    serve(_answering("204 No Content"))
    assert Http(path, "vm.boot").send() == {}


def test_a_body_is_sent_whole_as_json(path: Path, serve: Serve) -> None:
    heard: list[bytes] = []
    serve(_answering("204 No Content", heard=heard))
    body = {"payload": {"cmdline": "é\n" + "x" * 40_000}}
    Http(path, "vm.create", body).send()
    head, _, text = heard[0].partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /api/v1/vm.create HTTP/1.1\r\n")
    assert b"Content-Type: application/json" in head
    assert json.loads(text) == body


@pytest.mark.parametrize(
    ("status", "body", "told", "hint"),
    [
        ("500 Internal Server Error", json.dumps(LOCKED).encode(), ": ".join(LOCKED[1:]), "fuser -v DISK"),
        ("500 Internal Server Error", b'["Error from API", "Permission denied (os error 13)"]', "13)", "v doctor"),
        ("413 Payload Too Large", b'{"error": "Request payload with size 60000 is larger"}', "60000", ""),
        ("400 Bad Request", b'{"novel": 1}', "novel", ""),
        ("404 Not Found", b"no such endpoint\n", "refused `vm.boot`: no such endpoint", ""),
        ("500 Internal Server Error", b"", "refused `vm.boot`: HTTP status 500", ""),
        ("500 Internal Server Error", b'["Error from API"]', "refused `vm.boot`: HTTP status 500", ""),
        ("500 Internal Server Error", b'"text"', "text", ""),
        ("500 Internal Server Error", b"[" * 100_000, "[[[", ""),
        ("500 Internal Server Error", b"\xff\xfe", "refused `vm.boot`: \ufffd", ""),
        ("302 Found", b'{"version": "v53.0"}', "version", ""),
    ],
)
def test_a_refusal_is_told_in_its_own_words(
    status: str, body: bytes, told: str, hint: str, path: Path, serve: Serve
) -> None:
    serve(_answering(status, body))
    with pytest.raises(HostError) as caught:
        Http(path, "vm.boot").send()
    assert caught.value.message.startswith("cloud-hypervisor refused `vm.boot`: ")
    assert told in caught.value.message
    assert "Error from API" not in caught.value.message
    assert hint in caught.value.hint
    assert bool(caught.value.hint) is bool(hint)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b'{"QMP": {"version": 7}}\r\n', b"\0" * 70_000])
def test_what_does_not_speak_http_is_told(answer: bytes, path: Path, serve: Serve) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(answer)
        wait_for_end(connection)

    serve(talk)
    with pytest.raises(HostError, match=r"cannot be asked to `vmm.ping`: .*it does not speak HTTP"):
        Http(path, "vmm.ping", method="GET").send()


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"7", b"[" * 100_000])
def test_success_that_is_no_object_is_of_nothing_of_ours(body: bytes, path: Path, serve: Serve) -> None:
    serve(_answering("200 OK", body))
    with pytest.raises(HostError, match=r"the program that answered `vmm.ping` is not cloud-hypervisor"):
        Http(path, "vmm.ping", method="GET").send()


def test_one_that_dies_at_the_request_is_told_as_that(path: Path, serve: Serve) -> None:
    def talk(connection: socket.socket) -> None:
        _heard(connection)

    serve(talk)
    with pytest.raises(HostError, match=r"cannot be asked to `vm.boot`") as caught:
        Http(path, "vm.boot").send()
    assert "does not speak HTTP" not in caught.value.message


def _trickling(head: bytes, more: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(3000):
            connection.sendall(more)
            time.sleep(0.01)

    return talk


@pytest.mark.parametrize(
    "talk",
    [
        wait_for_end,
        _trickling(b"", b"H"),
        _trickling(b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        _trickling(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"{"),
        _trickling(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n"),
        _trickling(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["silent", "status", "header", "body", "chunks", "100 Continue"],
)
def test_one_deadline_bounds_the_whole_exchange(
    talk: Callable[[socket.socket], None], path: Path, serve: Serve
) -> None:
    serve(talk)
    began = time.monotonic()
    with pytest.raises(TimedOutError, match=r"did not answer `vm.info` within 0.2 s") as caught:
        Http(path, "vm.info", method="GET", timeout=0.2).send()
    assert "v logs VM --vmm" in caught.value.hint
    assert time.monotonic() - began < 25  # a trickle lasts 30


def test_one_that_does_not_read_is_not_waited_for(path: Path, serve: Serve) -> None:
    done: list[bool] = []

    def talk(connection: socket.socket) -> None:
        while not done:
            time.sleep(0.01)

    serve(talk)
    try:
        with pytest.raises(TimedOutError):
            Http(path, "vm.create", {"x": "x" * 2**22}, timeout=0.2).send()
    finally:
        done.append(True)


@pytest.mark.parametrize("length", [b"", b"Content-Length: 1000000000\r\n"])
def test_of_a_huge_answer_no_more_is_read_than_one_may_have(length: bytes, path: Path, serve: Serve) -> None:
    sent: list[int] = []

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n{")
        for _ in range(1000):
            connection.sendall(b" " * 2**16)
            sent.append(2**16)

    serve(talk)
    with pytest.raises(HostError, match="its answer is not a JSON object"):
        Http(path, "vm.info", method="GET", timeout=30).send()
    assert sum(sent) < 2**23


@pytest.mark.parametrize("there", [False, True])
def test_where_nobody_listens_that_is_told(there: bool, path: Path) -> None:
    if there:
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(path))
    with pytest.raises(HostError) as caught:
        Http(path, "vm.info", method="GET").send()
    why = "Connection refused" if there else "No such file or directory"
    assert caught.value.message == f"cloud-hypervisor cannot be asked to `vm.info`: {path}: {why}"


def test_a_path_that_no_socket_can_have_is_told(path: Path) -> None:
    with pytest.raises(HostError, match="path too long"):
        Http(path / ("x" * 200), "vm.info", method="GET").send()


def test_nothing_stays_open(path: Path, serve: Serve) -> None:
    serve(_answering("200 OK", b"{}"))
    Http(path, "vmm.ping", method="GET").send()
    before = open_descriptors()
    for _ in range(5):
        with pytest.raises(HostError):
            Http(path.with_name("gone"), "vmm.ping", method="GET").send()
    assert open_descriptors() <= before


def test_the_same_by_curl() -> None:
    assert shlex.split(Http(Path("/r/a b"), "vm.info", method="GET").shell()) == [
        *("curl", "-sS", "--fail-with-body", "--unix-socket", "/r/a b", "http://localhost/api/v1/vm.info")
    ]
    body = {"payload": {"cmdline": 'it\'s "$HOME" é'}}
    words = shlex.split(Http(Path("/r/s"), "vm.create", body).shell())
    assert words[4:9] == ["/r/s", "-X", "PUT", "-H", "Content-Type: application/json"]
    assert words[9] == "-d"
    assert json.loads(words[10]) == body
    assert words[11] == "http://localhost/api/v1/vm.create"


@pytest.mark.parametrize("quiet", [False, True])
def test_it_shows_itself_and_its_answer_unless_it_is_one_of_many(
    quiet: bool, path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    log.set_level(4)
    serve(_answering("200 OK", b'{"state": "Running"}'))
    Http(path, "vm.info", method="GET", quiet=quiet).send()
    shown = capsys.readouterr().err
    assert ("curl" in shown) is not quiet
    assert ("Running" in shown) is not quiet
