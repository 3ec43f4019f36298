"""Every unit test runs with its own folders, and can neither start a process nor reach the network."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.unit.fakehost import FakeHost
from tests.unit.support import Escape
from virshle import log
from virshle.config.paths import Paths
from virshle.exec import process
from virshle.plan import executor
from virshle.service.node import Node
from virshle.store import Layout, Store
from virshle.vmm import cloud_hypervisor, landlock, qemu

_STARTERS = ("fork", "forkpty", "execv", "execve", "posix_spawn", "posix_spawnp", "system")
_SENDERS = ("connect", "connect_ex", "sendto", "sendmsg")


# The same examples each time, and none is a failure because the machine is slow.
settings.register_profile("virshle", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("virshle")


@pytest.fixture(autouse=True)
def sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowest calls raise. pytest-subprocess replaces Popen above them, so what it fakes still works."""

    def refuse(what: str) -> Callable[..., Any]:
        def refused(*args: object, **_: object) -> Any:
            raise Escape(f"a unit test called {what}{args!r}")

        return refused

    for name in _STARTERS:
        monkeypatch.setattr(os, name, refuse(f"os.{name}"))
    monkeypatch.setattr(subprocess.Popen, "_execute_child", refuse("subprocess.Popen"))
    monkeypatch.setattr("_posixsubprocess.fork_exec", refuse("fork_exec"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse("socket.getaddrinfo"))
    for name in _SENDERS:
        monkeypatch.setattr(socket.socket, name, _local_only(name, getattr(socket.socket, name)))


def _local_only(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def checked(self: socket.socket, *args: Any, **more: Any) -> Any:
        if self.family != socket.AF_UNIX:
            raise Escape(f"a unit test called socket.{name}{args!r}")
        return real(self, *args, **more)

    return checked


@pytest.fixture
def run_folder() -> Iterator[Path]:
    """Short, as a unix socket's path must be and pytest's folders are not. It is removed by the real functions: this
    fixture is set up before `monkeypatch`, and so it ends after it."""
    folder = Path(tempfile.mkdtemp(prefix="vu-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def environment(run_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No folder and no variable of the machine that runs the tests; nothing is kept from one test to the next."""
    for name in list(os.environ):
        if name.startswith(("VIRSHLE_", "XDG_", "NIX_", "SUDO_")) or name in ("NO_COLOR", "COLUMNS"):
            monkeypatch.delenv(name)
    config = tmp_path / "config.toml"
    config.write_text("")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("VIRSHLE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("VIRSHLE_RUN_DIR", str(run_folder))
    monkeypatch.setenv("VIRSHLE_CONFIG", str(config))
    # No program of the machine's: what a test needs it puts there, see `host`. The flake's check has no more than this.
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "true"):
        (programs / name).touch(0o755)
    monkeypatch.setenv("PATH", str(programs))
    # Whoever runs the tests: an ordinary user, unless a test says root (see `root`).
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(process, "_FD", 9)
    yield
    log.set_level(0)
    log._warned.clear()
    qemu.version.cache_clear()
    cloud_hypervisor.version.cache_clear()
    landlock.landlock_works.cache_clear()
    executor.observers.clear()


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """No folder of them is there yet."""
    run = Path(os.environ["VIRSHLE_RUN_DIR"])
    origins = {"state": "test", "run": "test", "config": "test"}
    return Paths(tmp_path / "state", run, tmp_path / "config.toml", origins)


@pytest.fixture
def layout(paths: Paths) -> Layout:
    """With its folders."""
    layout = Layout(paths)
    for folder in layout.folders():
        folder.mkdir(parents=True)
    return layout


@pytest.fixture
def store(layout: Layout) -> Store:
    return Store(layout)


@pytest.fixture
def node(layout: Layout) -> Node:
    """Built-in templates and images, state folders there and empty."""
    return Node(layout.paths)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHost]:
    host = FakeHost.install(monkeypatch, tmp_path / "bin")
    yield host
    host.die()


@pytest.fixture
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of QEMU, whatever this machine has."""
    for name in ("code", "vars"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(qemu, "find_firmware", lambda arch: (tmp_path / "code", tmp_path / "vars"))
