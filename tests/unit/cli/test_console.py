"""`v console` on a terminal that is a pty of the test's; what is typed waits there before it is run."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from tests.unit.cli.conftest import V
from tests.unit.fakehost import FakeHost
from tests.unit.support import make_vm, open_descriptors, put_vm, uuid_of
from tests.unit.vmm.test_driver import LAUNCH
from virshle.cli import console as cli
from virshle.cli.console import _relay
from virshle.service.console import Console
from virshle.store import Layout

LEAVE = b"\x1d"


@dataclass
class Screen:
    """A terminal as its user has it."""

    side: int
    terminal: int

    def type(self, text: bytes) -> None:
        os.write(self.side, text)

    def shown(self) -> bytes:
        text = b""
        while select.select([self.side], [], [], 0.2)[0]:
            text += os.read(self.side, 65536)
        return text


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    side, terminal = os.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("4H", 33, 101, 0, 0))
    monkeypatch.setattr(cli, "KEYBOARD", terminal)
    monkeypatch.setattr(cli, "SCREEN", terminal)
    yield Screen(side, terminal)
    os.close(side)
    os.close(terminal)


@pytest.fixture
def web(layout: Layout, host: FakeHost) -> Iterator[int]:
    """A VM that runs; what is typed into it."""
    folder = put_vm(layout, make_vm())
    run = host.run_vm(layout, uuid_of("web"))
    (folder / "launch.json").write_text(LAUNCH.json())
    os.mkfifo(run / "console.in")
    (folder / "log/console.log").write_bytes(b"login: ")
    typed = os.open(run / "console.in", os.O_RDWR | os.O_NONBLOCK)
    yield typed
    os.close(typed)


@dataclass
class FakeConsole:
    """Says what it has; `then` is called at each look, and may type, resize or end it."""

    says: list[bytes] = field(default_factory=list)
    then: Callable[[int], object] = lambda look: None
    name: str = "web"
    sized: bool = True
    paused: bool = False
    others: int = 0
    ended: bool = False
    typed: bytes = b""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    looks: int = 0

    def filenos(self) -> list[int]:
        return []

    def pump(self) -> None:
        self.looks += 1
        self.then(self.looks)

    def output(self) -> bytes:
        return self.says.pop(0) if self.says else b""

    def input(self, text: bytes) -> None:
        self.typed += text

    def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))


def relay(console: FakeConsole, key: bytes = LEAVE) -> bool:
    with cli._raw():
        return _relay(cast(Console, console), key)


def test_a_session(web: int, screen: Screen, v: V) -> None:
    before, files = termios.tcgetattr(screen.terminal), open_descriptors()
    screen.type(b"root\x01" + LEAVE + b"not sent")
    ran = v("console", "web")
    assert (ran.code, ran.out) == (0, "")
    banner, size, end = ran.err.splitlines()
    assert banner == "attached to web; Ctrl-] leaves it"
    assert size.endswith("stty rows 33 cols 101")
    assert end == "detached from web"
    assert os.read(web, 99) == b"root\x01"
    assert termios.tcgetattr(screen.terminal) == before
    assert open_descriptors() == files


@pytest.mark.parametrize(("escape", "key", "shown"), [("^a", b"\x01", "Ctrl-A"), ("^_", b"\x1f", "Ctrl-_")])
def test_another_key_leaves_it(escape: str, key: bytes, shown: str, web: int, screen: Screen, v: V) -> None:
    screen.type(LEAVE + key)
    ran = v("console", "web", "-e", escape)
    assert f"; {shown} leaves it" in ran.err
    assert os.read(web, 99) == LEAVE


@pytest.mark.parametrize("escape", ["", "]", "^", "^]]", "^1", "^?", "\x1d"])
def test_what_is_no_key_is_a_usage_error(escape: str, v: V) -> None:
    assert v("console", "web", "-e", escape).code == 2


def test_read_only_sends_nothing(web: int, screen: Screen, v: V) -> None:
    screen.type(b"rm -rf /\n" + LEAVE)
    ran = v("console", "-r", "web")
    assert ran.err.splitlines() == ["attached to web, read-only; Ctrl-] leaves it", "detached from web"]
    with pytest.raises(BlockingIOError):
        os.read(web, 99)


def test_without_a_terminal_the_log_is_recommended(web: int, v: V, monkeypatch: pytest.MonkeyPatch) -> None:
    for descriptor in ("KEYBOARD", "SCREEN"):
        monkeypatch.setattr(cli, descriptor, web)
    ran = v("console", "web")
    assert ran.code == 2
    assert "v logs web -f" in ran.err


def test_a_stopped_vm_and_one_that_is_not_there(web: int, screen: Screen, host: FakeHost, v: V) -> None:
    host.die()
    before = termios.tcgetattr(screen.terminal)
    stopped, missing = v("console", "web"), v("console", "wbe")
    assert (stopped.code, missing.code) == (5, 4)
    assert "v start web" in stopped.err
    assert "did you mean web?" in missing.err
    assert termios.tcgetattr(screen.terminal) == before


@pytest.mark.parametrize(
    ("others", "told"), [(0, "to web;"), (1, "to web with 1 other;"), (3, "to web with 3 others;")]
)
def test_the_banner_tells_of_others(others: int, told: str, screen: Screen) -> None:
    banner = cli._banner(cast(Console, FakeConsole(others=others)), LEAVE, False)
    assert told in banner
    assert "stty" not in banner


def test_all_is_shown_before_it_ends_with_the_vm(screen: Screen) -> None:
    console = FakeConsole([b"going ", b"down", b"."], ended=True)
    assert not relay(console)
    assert screen.shown().startswith(b"going down.")


def test_a_window_that_changes_is_told(screen: Screen) -> None:
    def then(look: int) -> None:
        if look == 2:
            fcntl.ioctl(screen.side, termios.TIOCSWINSZ, struct.pack("4H", 50, 90, 0, 0))
        if look == 4:
            console.ended = True

    console = FakeConsole(then=then)
    assert not relay(console)
    assert console.sizes == [(33, 101), (50, 90)]


def test_a_terminal_that_takes_nothing_keeps_neither_the_guest_nor_the_key_waiting(screen: Screen) -> None:
    def then(look: int) -> None:
        if look == 50:
            screen.type(b"x" + LEAVE)

    block = b"x" * 65536
    console = FakeConsole([block] * 100, then)
    assert relay(console)
    assert console.looks >= 50
    assert console.typed == b"x"
    assert len(console.says) > 90, "it went on reading what it could not show"
    # And what is said afterwards is not waited with either.
    assert select.select([], [screen.terminal], [], 0)[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(
    number: int, web: int, screen: Screen, v: V, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = termios.tcgetattr(screen.terminal)

    def output(self: Console) -> bytes:
        assert not termios.tcgetattr(screen.terminal)[3] & termios.ICANON
        os.kill(os.getpid(), number)
        return b""

    monkeypatch.setattr(Console, "output", output)
    assert v("console", "web").code == 130
    assert termios.tcgetattr(screen.terminal) == before
    assert signal.getsignal(signal.SIGCONT) == signal.SIG_DFL


def test_an_error_leaves_the_terminal_as_it_was(screen: Screen) -> None:
    def then(look: int) -> None:
        raise ZeroDivisionError

    before = termios.tcgetattr(screen.terminal)
    with pytest.raises(ZeroDivisionError):
        relay(FakeConsole(then=then))
    assert termios.tcgetattr(screen.terminal) == before


def test_who_comes_back_from_being_stopped_has_his_keys_raw_again(screen: Screen) -> None:
    before = termios.tcgetattr(screen.terminal)

    def then(look: int) -> None:
        if look == 1:
            termios.tcsetattr(screen.terminal, termios.TCSANOW, before)  # as a shell does
            os.kill(os.getpid(), signal.SIGCONT)
        else:
            assert not termios.tcgetattr(screen.terminal)[3] & termios.ICANON
            console.ended = True

    console = FakeConsole(then=then)
    assert not relay(console)
    assert console.looks >= 2


def test_a_terminal_that_goes_ends_it(screen: Screen, tmp_path: Path) -> None:
    def then(look: int) -> None:
        if look == 2:
            os.close(screen.side)
            screen.side = os.open(os.devnull, os.O_RDONLY)

    with pytest.raises((KeyboardInterrupt, OSError)):
        relay(FakeConsole(then=then))


def test_the_banner_tells_of_a_guest_that_stands_still(screen: Screen) -> None:
    assert "v resume web" in cli._banner(cast(Console, FakeConsole(paused=True)), LEAVE, False)
    assert "v resume" not in cli._banner(cast(Console, FakeConsole()), LEAVE, False)
