"""The guard of conftest.py: that it holds, and that it lets through what it must."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from pytest_subprocess import FakeProcess

from tests.unit.support import Escape
from virshle.exec import Command, attached, exec_into, follow, run, spawn_ok

_STARTS: dict[str, Callable[[], object]] = {
    "subprocess.run": lambda: subprocess.run(["true"]),
    "subprocess.Popen in a shell": lambda: subprocess.Popen("true", shell=True),
    "os.fork": lambda: os.fork(),
    "os.system": lambda: os.system("true"),
    "os.popen": lambda: os.popen("true"),
    "os.execv": lambda: os.execv("/bin/true", ["true"]),
    "os.execlp": lambda: os.execlp("true", "true"),
    "os.execvpe": lambda: os.execvpe("true", ["true"], {}),
    "os.posix_spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "os.spawnlp": lambda: os.spawnlp(os.P_WAIT, "true", "true"),
    "our runner": lambda: run(Command(("true",))),
    "our quiet runner": lambda: spawn_ok(Command(("true",))),
    "our follower": lambda: follow(Command(("true",)), print),
    "our exec": lambda: exec_into(("true",)),
    "our terminal's": lambda: attached(("true",)),
}


@pytest.mark.parametrize("start", _STARTS.values(), ids=_STARTS.keys())
def test_no_process_is_started(start: Callable[[], object]) -> None:
    with pytest.raises(Escape):
        start()


def test_the_guard_is_not_eaten_by_a_handler() -> None:
    with pytest.raises(Escape):
        try:
            run(Command(("true",)), check=False)
        except Exception:  # what broad handlers do
            pytest.fail("it was eaten")


def test_what_a_test_replaces_is_real_again_when_its_folder_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard library removes a folder by functions that tests replace, and by others in each of its releases."""

    def replaced(*_: object, **__: object) -> None:
        pytest.fail("the end of a test met what the test had replaced")

    for name in ("open", "lstat", "rmdir"):
        monkeypatch.setattr(os, name, replaced)


def _internet(act: Callable[[socket.socket], object]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        act(datagrams)


_REACHES: dict[str, Callable[[], object]] = {
    "connect": lambda: _internet(lambda s: s.connect(("127.0.0.1", 9))),
    "connect_ex": lambda: _internet(lambda s: s.connect_ex(("192.0.2.1", 9))),
    "sendto": lambda: _internet(lambda s: s.sendto(b"", ("192.0.2.1", 9))),
    "create_connection": lambda: socket.create_connection(("192.0.2.1", 9)),
    "names": lambda: socket.getaddrinfo("example.org", 80),
}


@pytest.mark.parametrize("reach", _REACHES.values(), ids=_REACHES.keys())
def test_no_network_is_reached(reach: Callable[[], object]) -> None:
    with pytest.raises(Escape):
        reach()


def test_unix_sockets_work() -> None:
    path = str(Path(os.environ["VIRSHLE_RUN_DIR"]) / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        client.sendall(b"x")
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1) == b"x"


def test_threads_work() -> None:
    seen: list[int] = []
    thread = Thread(target=seen.append, args=(1,))
    thread.start()
    thread.join()
    assert seen == [1]


def test_a_faked_process_works(fp: FakeProcess) -> None:
    fp.register(["hello", "world"], stdout="well")
    assert run(Command(("hello", "world"))).stdout.strip() == "well"


def test_what_is_not_faked_is_no_way_out(fp: FakeProcess) -> None:
    fp.allow_unregistered(True)
    with pytest.raises(Escape):
        run(Command(("true",)))


def test_no_folder_of_this_machine_is_used(tmp_path: Path) -> None:
    from virshle.config.paths import find_paths

    found = find_paths()
    assert found.state == tmp_path / "state"
    assert str(found.run).startswith("/tmp/vu-")
    assert found.config == tmp_path / "config.toml"
    assert Path.home() == tmp_path / "home"
