"""`v console` on real QEMU: each viewer a process on a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.host.host import LONG, Host, V

LEAVE = b"\x1d"


class Viewer:
    """`v console web`, its terminal, and all that was shown there."""

    def __init__(self, host: Host, *words: str, rows: int = 40, columns: int = 120) -> None:
        self.screen, self.terminal = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.terminal)
        self.shown = b""
        self.process = subprocess.Popen(
            [str(V), "console", "web", *words],
            env=host.environment(),
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            start_new_session=True,
        )

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.screen, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str | bytes) -> None:
        os.write(self.screen, text if isinstance(text, bytes) else text.encode())

    def sees(self, text: str, timeout: float = LONG) -> None:
        """Waits for it, in what was not yet waited for."""
        deadline = time.monotonic() + timeout
        while text.encode() not in self.shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} is not in {self.shown!r}"
            if select.select([self.screen], [], [], left)[0]:
                self.shown += os.read(self.screen, 65536)
        self.shown = self.shown.partition(text.encode())[2]

    def ends(self, code: int = 0) -> None:
        """Its terminal is as it was before."""
        while self.process.poll() is None:
            if select.select([self.screen], [], [], 0.05)[0]:
                self.shown += os.read(self.screen, 65536)
        assert self.process.returncode == code, self.shown
        assert termios.tcgetattr(self.terminal) == self.before

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self.screen)
        os.close(self.terminal)


Open = Callable[..., Viewer]


@pytest.fixture
def view(host: Host) -> Iterator[Open]:
    """Opens the console of a VM that is ready."""
    viewers: list[Viewer] = []

    def view(*words: str, rows: int = 40, columns: int = 120) -> Viewer:
        viewers.append(Viewer(host, *words, rows=rows, columns=columns))
        return viewers[-1]

    host.v("create", "-t", "tiny", "web", "--start", "--wait")
    yield view
    for viewer in viewers:
        viewer.close()


def log_of(host: Host) -> Path:
    (path,) = host.state.glob("vm/*/log/console.log")
    return path


def wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + LONG
    while text.encode() not in log.read_bytes():
        assert time.monotonic() < deadline, log.read_bytes()
        time.sleep(0.05)


@pytest.mark.heart
def test_a_shell_on_the_console(host: Host, view: Open) -> None:
    one = view(rows=33, columns=101)
    one.sees("attached to web; Ctrl-] leaves it")
    one.sees("stty rows 33 cols 101")
    one.sees("root@web:/#")  # of the log: the guest says nothing new
    one.type("echo he''llo; stty size; sleep 1; echo la''ter\n")
    one.sees("hello\r\n")
    one.type(b"\x1d")
    one.sees("detached from web")
    one.ends()
    wait_for(log_of(host), "later")

    again = view("-e", "^a")
    again.sees("Ctrl-A leaves it")
    again.sees("later\r\n")
    again.resize(50, 90)
    again.type("echo se''cond\n")
    again.sees("second\r\n")
    assert b"later" not in again.shown
    # Ctrl-C, Ctrl-Z, Ctrl-D, Ctrl-\ and Ctrl-S are the guest's.
    again.type("stty raw -echo; echo rea''dy; dd bs=1 count=5 2>/dev/null | od -An -tx1; stty sane\n")
    again.sees("ready")
    again.type(b"\x03\x1a\x04\x1c\x13")
    again.sees("03 1a 04 1c 13")
    again.type(b"\x01")
    again.ends()
    looking = view("-r")
    looking.sees("read-only; Ctrl-] leaves it")
    looking.sees("03 1a 04 1c 13")
    looking.type(b"echo never\n" + LEAVE)
    looking.ends()
    assert host.v("ssh", "web", "echo alive").stdout == "alive\n"
    assert b"never" not in log_of(host).read_bytes()
    ended = view()
    ended.sees("03 1a 04 1c 13")
    ended.process.terminate()
    ended.ends(130)
    host.v("stop", "web")
    late = view()
    late.sees("v start web")
    late.ends(5)


def test_no_viewer_is_in_the_way_of_another(host: Host, view: Open) -> None:
    first = view()
    first.sees("root@web:/#")
    second = view()
    second.sees("attached to web with 1 other;")
    second.sees("root@web:/#")
    first.type("echo o''ne\n")
    first.sees("one\r\n")
    second.sees("one\r\n")

    first.process.kill()
    first.process.wait()
    second.type("echo t''wo\n")
    second.sees("two\r\n")

    stopped, unread = view(), view()
    for viewer in (stopped, unread):
        viewer.sees("two\r\n")
    stopped.process.send_signal(signal.SIGSTOP)
    # Many times what any buffer between the guest and a terminal holds.
    second.type("i=0; while [ $i -lt 12000 ]; do i=$((i+1)); echo line $i; done; echo fl''ood\n")
    second.sees("line 11999\r\nline 12000\r\nflood\r\n")
    third = view()
    third.sees("attached to web with 3 others;")
    third.sees("flood\r\n")
    third.type("echo th''ree\n")
    second.sees("three\r\n")
    # A screen that nobody reads does not keep its viewer from leaving, nor has anything been lost for it.
    unread.type(LEAVE)
    unread.process.wait(timeout=LONG)
    stopped.process.send_signal(signal.SIGCONT)
    stopped.sees("line 11999\r\nline 12000\r\nflood\r\n")
    stopped.type("echo fo''ur\n")
    third.sees("four\r\n")

    # The guest's own reboot is no end, the VM's is.
    third.type("reboot\n")
    third.sees("Going down for reboot.")
    third.sees("web is ready.")
    third.type("\necho af''ter\n")
    second.sees("after\r\n")
    host.v("stop", "web")
    for viewer in (second, third, stopped):
        viewer.sees("web has stopped")
        viewer.ends()
    host.check()


def test_a_guest_that_does_not_read_blocks_nobody(host: Host, view: Open) -> None:
    one, two = view(), view()
    for viewer in (one, two):
        viewer.sees("root@web:/#")
    one.type("sleep 9999\n")
    two.sees("sleep 9999\r\n")
    for _ in range(200):
        one.type("x" * 1023 + "\n")
    one.type(LEAVE)
    one.ends()
    two.type(b"\x03")
    two.type(LEAVE)
    two.ends()
    assert host.v("ssh", "web", "echo alive").stdout == "alive\n"
