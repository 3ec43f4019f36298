"""A VM's console for any number of viewers, none of whom needs, serves or can hold up another.

All follow one log from where they came in, and each types into the VM himself. QEMU writes that log alone, and is typed
into by a FIFO. cloud-hypervisor has a pty: whoever is first at a piece of its output reads it and appends it to the
log; the next piece may be another's. A lock is held for that moment alone, so whoever is killed or stopped leaves the
rest to the others.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import re
import stat
import struct
import termios
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from virshle.errors import ConflictError, VirshleError
from virshle.fs import Lock, explained, no_link, try_lock
from virshle.service.node import Node, check_owner
from virshle.service.ready import told_of
from virshle.store import Entry
from virshle.vmm.choose import driver_of
from virshle.vmm.driver import Terminal
from virshle.vmm.seen import launch_of

SCROLLBACK = 16 << 10
"""Bytes of the log, at most, that a viewer is shown first."""
KEPT = 256 << 10
"""Bytes that the first viewer leaves of terminal.log, which grows as long as there are viewers."""
UNSENT = 1 << 20
"""Bytes that may be typed ahead of a guest which does not read. What is more is lost, as on a real line."""
PATIENCE = 5.0
"""Seconds to wait for another viewer who reads the pty, which takes less than a thousandth of one."""
_BLOCK = 1 << 16
_FLAGS = os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC

_QUESTIONS = re.compile(
    rb"\x05|\x1bZ"  # who are you
    rb"|\x1b\[[?>=]?[\d;]*(?:[cnq]|\$p|(?<=\?)u)"  # device attributes, status and cursor, version, modes, keys
    rb"|\x1b\[(?:1[13-9]|2[01])[\d;]*t"  # the window's size, place and title
    rb"|\x1b\][^\x07\x1b]*\?(?:\x07|\x1b\\)"  # colours, the clipboard
    rb"|\x1bP[^\x1b]*\x1b\\"  # capabilities, settings
)
"""What a terminal answers by itself, as if its user typed it (xterm's ctlseqs): no question for an old log to ask."""


class Console:
    """One viewer of a VM that runs. Nothing blocks, but for a bounded question to the VMM at the beginning and after a
    reboot of the guest. Used in a loop: `pump`, then `output` until it is empty."""

    def __init__(self, node: Node, entry: Entry, *, typing: bool = True) -> None:
        """Without `typing` nothing is ever sent, not even a window's size.

        Raises ConflictError where the VM does not run or has no console, HostError where that cannot be opened.
        """
        check_owner(entry)
        self.name, self._uuid, self._node = entry.name, entry.uuid, node
        place = self._place = node.place(entry.uuid)
        self._launch = launch_of(place)
        if self.ended:
            vm = entry.whole()
            raise ConflictError(f"{vm.name} is stopped", hint=f"start it: v start {vm.name}")
        self.paused = told_of(place).state == "paused"
        """Whether its guest stood still when this was opened."""
        driver = driver_of(self._launch, place)
        terminal = driver.console(place)
        self.sized = terminal.kind == "pty"
        """Whether the guest is told the window's size."""
        old, log = place.console_log, place.terminal_log if self.sized else place.console_log
        with ExitStack() as opened, explained(f"open the console of {entry.name}"):
            seat = opened.enter_context(_seat(place.run, log if self.sized else None))
            self.others = len(_holders(seat.fd)) - 1
            """How many viewers there were before."""
            flags = os.O_RDWR | os.O_CREAT if self.sized else os.O_RDONLY
            self._log = os.open(log, flags | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
            opened.callback(os.close, self._log)
            self._at = os.fstat(self._log).st_size
            self._scrollback = _QUESTIONS.sub(b"", _end(log, self._at, SCROLLBACK) or _end(old, None, SCROLLBACK))
            ask = functools.partial(driver.console, place)
            self._line = _Pty(terminal, ask, self._log, typing) if self.sized else _Line(terminal.path, typing)
            opened.callback(self._line.close)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """What is unread of a pty stays in it for the next viewer."""
        self._opened.close()

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ended(self) -> bool:
        """Whether the VM has stopped since, or was even started again."""
        if self._node.process(self._uuid) is None:
            return True
        launch = launch_of(self._place)
        return launch is not None and launch != self._launch

    def filenos(self) -> list[int]:
        """What may be selected on for output; beside that, it must be looked for now and then."""
        return self._line.filenos()

    def pump(self) -> None:
        """Keeps the line going: what was typed is sent as far as the guest reads, what it said comes to the log.

        Raises ConflictError where another viewer stands in the way, HostError where the log cannot be written.
        """
        self._line.pump()

    def output(self) -> bytes:
        """The next piece of what the guest said, empty where there is none: the end of the log, then what is added."""
        if self._scrollback:
            text, self._scrollback = self._scrollback, b""
            return text
        if os.fstat(self._log).st_size < self._at:
            self._at = 0  # somebody has emptied it
        text = os.pread(self._log, _BLOCK, self._at)
        self._at += len(text)
        return text

    def input(self, text: bytes) -> None:
        self._line.input(text)

    def resize(self, rows: int, columns: int) -> None:
        """Tells the guest where the line can; of several viewers the last one counts."""
        self._line.resize(rows, columns)


class _Line:
    """A FIFO that is typed into."""

    def __init__(self, path: Path, typing: bool) -> None:
        self._fd = _own(os.open(path, os.O_WRONLY | _FLAGS), path) if typing else -1
        self._unsent = b""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def filenos(self) -> list[int]:
        return []

    def input(self, text: bytes) -> None:
        self._unsent = (self._unsent + text)[:UNSENT]
        self._send()

    def _send(self) -> None:
        try:
            while self._unsent and self._fd >= 0:
                self._unsent = self._unsent[os.write(self._fd, self._unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._gone(error)

    def _gone(self, error: OSError) -> None:
        """Nobody is at the other side: the VM has ended, or its guest reboots (a pty whose other side is closed)."""
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise error
        self.close()

    def pump(self) -> None:
        self._send()

    def resize(self, rows: int, columns: int) -> None:
        """A serial line carries none."""


class _Pty(_Line):
    """`ask` says which it is now: another one after a reboot of the guest."""

    def __init__(self, terminal: Terminal, ask: Callable[[], Terminal], log: int, typing: bool) -> None:
        self._ask, self._log, self._typing = ask, log, typing
        self._unsent = b""
        self._size: tuple[int, int] | None = None
        self._next_try = 0.0
        self._waits_since: float | None = None
        self._open(terminal)

    def _open(self, terminal: Terminal) -> None:
        flags = os.O_RDWR if self._typing else os.O_RDONLY
        self._fd = _own(os.open(terminal.path, flags | _FLAGS), terminal.path)
        # Its number may have been given to somebody else's terminal in between; not if it is still the guest's.
        with suppress(VirshleError):
            if self._ask() == terminal:
                if self._size:
                    self.resize(*self._size)
                return
        self.close()

    def filenos(self) -> list[int]:
        # Not while another reads: what is readable stays so until he has.
        return [self._fd] if self._fd >= 0 and self._waits_since is None else []

    def input(self, text: bytes) -> None:
        if self._typing:
            super().input(text)

    def resize(self, rows: int, columns: int) -> None:
        self._size = rows, columns
        if self._typing and self._fd >= 0:
            with suppress(OSError):
                fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def pump(self) -> None:
        if self._fd < 0 and time.monotonic() >= self._next_try:
            self._next_try = time.monotonic() + 1
            with suppress(OSError, VirshleError):
                self._open(self._ask())
        self._send()
        if self._fd < 0:
            return
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait()
            return
        self._waits_since = None
        try:
            # Bounded, so that a guest which never ends does not keep its viewer from leaving.
            for _ in range(64):
                if not (text := self._read()):
                    break
                with explained("keep what the guest says"):
                    while text:
                        text = text[os.write(self._log, text) :]
        finally:
            fcntl.flock(self._log, fcntl.LOCK_UN)

    def _read(self) -> bytes:
        """Empty where there is nothing, or nobody any more."""
        try:
            text = os.read(self._fd, _BLOCK)
        except BlockingIOError:
            return b""
        except OSError as error:
            self._gone(error)
            return b""
        if not text:
            self.close()
        return text

    def _wait(self) -> None:
        now = time.monotonic()
        self._waits_since = self._waits_since or now
        if now - self._waits_since > PATIENCE:
            pids = " ".join(map(str, _holders(self._log)))
            raise ConflictError(
                f"another viewer of this console was stopped while it was reading: process {pids or 'unknown'}",
                hint=f"let it go on (kill -CONT {pids}) or end it (kill -KILL {pids})"
                if pids
                else "look for `v console`",
            )


def _own(fd: int, path: Path) -> int:
    """It, where it is a FIFO or a terminal. Raises OSError: who runs as the VMM could give us any other file to write
    to, which only we may."""
    if stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd):
        return fd
    os.close(fd)
    raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY), str(path))


def _seat(run: Path, trim: Path | None) -> Lock:
    """Held by every viewer; who is the first one cuts the log to trim back."""
    if trim is not None and (first := try_lock(run)) is not None:
        with first:
            _cut(trim)
    return Lock(run, shared=True, patience=PATIENCE)


def _cut(log: Path) -> None:
    with suppress(FileNotFoundError), open(log, "r+b", opener=no_link) as file:
        kept = _end(log, None, KEPT)
        if len(kept) < file.seek(0, os.SEEK_END):
            file.seek(0)
            file.write(kept)
            file.truncate()


def _end(log: Path, size: int | None, most: int) -> bytes:
    """The end of the first `size` bytes, at most `most` of them and from the beginning of a line."""
    with suppress(FileNotFoundError), open(log, "rb", opener=no_link) as file:
        end = file.seek(0, os.SEEK_END) if size is None else size
        begin = file.seek(max(end - most, 0))
        text = file.read(end - begin)
        return text[text.find(b"\n") + 1 :] if begin else text
    return b""


def _holders(fd: int) -> list[int]:
    """The pids that have an flock on a file, by /proc/locks (proc(5)); btrfs and others are known by another number
    there, and then it is none."""
    at = os.fstat(fd)
    place = f"{os.major(at.st_dev):02x}:{os.minor(at.st_dev):02x}:{at.st_ino}"
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return [int(words[4]) for words in lines if words[1] == "FLOCK" and words[5] == place]
