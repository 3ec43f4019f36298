from __future__ import annotations

import json
import os
import shlex
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from virshle import log
from virshle.errors import HostError, TimedOutError
from virshle.rpc import Qmp

GREETING = b'{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}\n'
EVENT = b'{"event": "RTC_CHANGE", "data": {"offset": 0}, "timestamp": {"seconds": 1}}\n'
OK = b'{"return": {}}\n'

Talk = Callable[[Any], None]
"""What the server does with one client: a file to read from and to write to."""


@pytest.fixture
def path() -> Path:
    return Path(os.environ["VIRSHLE_RUN_DIR"]) / "qmp.sock"


@pytest.fixture
def serve(path: Path) -> Iterator[Callable[[Talk], list[Any]]]:
    """Starts a server for one client; the messages it read are in the list."""
    with socket.socket(socket.AF_UNIX) as listener:
        threads: list[Thread] = []

        def start(talk: Talk) -> list[Any]:
            read: list[Any] = []
            listener.bind(str(path))
            listener.listen()
            listener.settimeout(30)
            thread = Thread(target=_serve, args=(listener, talk, read))
            thread.start()
            threads.append(thread)
            return read

        yield start
        for thread in threads:
            thread.join()


def _serve(listener: socket.socket, talk: Talk, read: list[Any]) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(30)
        stream = connection.makefile("rwb", buffering=0)

        class Client:
            def hear(self) -> None:
                read.append(json.loads(stream.readline()))

            def say(self, *lines: bytes) -> None:
                stream.write(b"".join(lines))

            def wait_for_end(self) -> None:
                stream.readline()

        try:
            with stream:
                talk(Client())
        except OSError:
            return  # the client went: it had waited long enough


def _talk(answer: bytes, *, between: bytes = b"") -> Talk:
    def talk(client: Any) -> None:
        client.say(GREETING, between)
        client.hear()
        client.say(between, OK, between)
        client.hear()
        client.say(between, answer)

    return talk


def test_an_answer_comes_after_greeting_and_capabilities(path: Path, serve: Callable[[Talk], list[Any]]) -> None:
    read = serve(_talk(b'{"return": {"status": "running"}}\n'))
    assert Qmp(path, "query-status", {"x": 1}, timeout=30).send() == {"status": "running"}
    assert read == [{"execute": "qmp_capabilities"}, {"execute": "query-status", "arguments": {"x": 1}}]


def test_events_in_between_are_passed_over(path: Path, serve: Callable[[Talk], list[Any]]) -> None:
    serve(_talk(b'{"return": {"status": "running"}}\n', between=EVENT * 3))
    assert Qmp(path, "query-status", timeout=30).send() == {"status": "running"}


def test_an_answer_that_is_no_object_is_kept(path: Path, serve: Callable[[Talk], list[Any]]) -> None:
    serve(_talk(b'{"return": [1, 2]}\n'))
    assert Qmp(path, "query-block", timeout=30).send() == {"": [1, 2]}


def test_a_refusal_is_told_in_qemus_words(path: Path, serve: Callable[[Talk], list[Any]]) -> None:
    serve(_talk(b'{"error": {"class": "GenericError", "desc": "no such thing"}}\n'))
    with pytest.raises(HostError, match="QEMU refused: no such thing"):
        Qmp(path, "query-status", timeout=30).send()


@pytest.mark.parametrize("says", [b"", GREETING], ids=["at once", "after its greeting"])
def test_a_qemu_that_goes_is_told(says: bytes, path: Path, serve: Callable[[Talk], list[Any]]) -> None:
    def talk(client: Any) -> None:
        client.say(says)
        if says:
            client.hear()

    serve(talk)
    with pytest.raises(HostError, match="closed its QMP socket"):
        Qmp(path, "query-status", timeout=30).send()


@pytest.mark.parametrize("says", [b'{"QMP": {"ver', b"garbage\n", b"5\n"], ids=["torn", "no JSON", "no object"])
def test_what_is_no_answer_is_a_host_error(says: bytes, path: Path, serve: Callable[[Talk], list[Any]]) -> None:
    serve(lambda client: client.say(says))
    with pytest.raises(HostError):
        Qmp(path, "query-status", timeout=30).send()


@pytest.mark.parametrize("says", [b"", GREETING], ids=["busy with another client", "stuck after its greeting"])
def test_a_qemu_that_hangs_is_given_up_in_time(says: bytes, path: Path, serve: Callable[[Talk], list[Any]]) -> None:
    def talk(client: Any) -> None:
        client.say(says)
        client.wait_for_end()
        client.wait_for_end()

    serve(talk)
    started = time.monotonic()
    with pytest.raises(TimedOutError, match=r"did not answer `query-status` within 0\.1 s"):
        Qmp(path, "query-status", timeout=0.1).send()
    assert time.monotonic() - started < 10


def test_the_bound_holds_for_the_whole_exchange(path: Path, serve: Callable[[Talk], list[Any]]) -> None:
    def talk(client: Any) -> None:
        for _ in range(60):
            client.say(b" ")
            time.sleep(0.02)

    serve(talk)
    with pytest.raises(TimedOutError):
        Qmp(path, "query-status", timeout=0.4).send()


def test_where_nobody_listens_the_socket_is_named(path: Path) -> None:
    with pytest.raises(HostError, match=r"cannot be asked to `query-status`: .*qmp\.sock: No such file"):
        Qmp(path, "query-status").send()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    with pytest.raises(HostError, match="Connection refused"):
        Qmp(path, "query-status").send()


def test_it_shows_itself_as_socat_would_send_it() -> None:
    shell = Qmp(Path("/run/a b/qmp.sock"), "device_del", {"id": "it's"}).shell()
    printf, socat = (shlex.split(part) for part in shell.split(" | "))
    assert printf[:2] == ["printf", "%s\\n"]
    assert [json.loads(line) for line in printf[2:]] == [
        {"execute": "qmp_capabilities"},
        {"execute": "device_del", "arguments": {"id": "it's"}},
    ]
    assert socat == ["socat", "-t2", "-", "UNIX-CONNECT:/run/a b/qmp.sock"]


@pytest.mark.parametrize("quiet", [True, False])
def test_it_is_shown_unless_it_is_one_of_many(quiet: bool, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.set_level(3)
    with pytest.raises(HostError):
        Qmp(path, "query-status", quiet=quiet).send()
    assert ("+ printf" in capsys.readouterr().err) is not quiet


def test_who_finds_a_full_queue_stands_in_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU's is one long, and it serves one client after the other."""
    slept: list[float] = []
    threads: list[Thread] = []
    read: list[Any] = []
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as another:
        listener.bind(str(path))
        listener.listen(0)
        listener.settimeout(30)
        another.connect(str(path))

        def serve_the_other_first(seconds: float) -> None:
            slept.append(seconds)
            listener.accept()[0].close()
            answer = _talk(b'{"return": {"status": "running"}}\n')
            threads.append(Thread(target=_serve, args=(listener, answer, read)))
            threads[-1].start()

        monkeypatch.setattr(time, "sleep", serve_the_other_first)
        assert Qmp(path, "query-status", timeout=30).send() == {"status": "running"}
        threads[-1].join()
    assert len(slept) == 1


def test_nor_is_a_queue_stood_in_for_ever(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as another:
        listener.bind(str(path))
        listener.listen(0)
        another.connect(str(path))
        with pytest.raises(TimedOutError, match=r"did not answer `query-status` within 0\.1 s"):
            Qmp(path, "query-status", timeout=0.1).send()
