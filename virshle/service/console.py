"""A VM's console for any number of viewers. No viewer needs another one, and none can block another one.

All viewers follow one log, each from the point where it joined, and each types into the VM directly. QEMU writes the
log itself, and reads what is typed from a FIFO. cloud-hypervisor has a pty: the viewer that comes first reads a piece
of output and appends it to the log; another viewer may get the next piece. The viewer holds a lock only for that
moment, so the others go on if a viewer is killed or stopped.
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
"""A viewer first gets the end of the log, at most this many bytes."""
KEPT = 256 << 10
"""The first viewer cuts terminal.log to this many bytes. The file grows as long as there are viewers."""
UNSENT = 1 << 20
"""Bytes of input that are kept for a guest that does not read. More input is lost, as on a real serial line."""
PATIENCE = 5.0
"""Seconds to wait for another viewer that reads the pty. Such a read takes less than a millisecond."""
_BLOCK = 1 << 16
_FLAGS = os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC

_QUESTIONS = re.compile(
    rb"\x05|\x1bZ"  # who are you?
    rb"|\x1b\[[?>=]?[\d;]*(?:[cnq]|\$p|(?<=\?)u)"  # device attributes, status and cursor, version, modes, keys
    rb"|\x1b\[(?:1[13-9]|2[01])[\d;]*t"  # the window's size, place and title
    rb"|\x1b\][^\x07\x1b]*\?(?:\x07|\x1b\\)"  # colours, the clipboard
    rb"|\x1bP[^\x1b]*\x1b\\"  # capabilities, settings
)
"""Control sequences that a terminal answers as if its user typed the answer (xterm's ctlseqs). They are removed from
old output, because that question is over."""


class Console:
    """One viewer of a running VM. Nothing blocks, except for a request to the VMM, with a time limit, at the beginning
    and after a reboot of the guest. Use it in a loop: `pump`, then `output` until that is empty."""

    def __init__(self, node: Node, entry: Entry, *, typing: bool = True) -> None:
        """Without `typing` nothing is ever sent to the guest, not even the window's size.

        Raises ConflictError if the VM does not run or has no console, HostError if the console cannot be opened.
        """
        check_owner(entry)
        self.name, self._uuid, self._node = entry.name, entry.uuid, node
        place = self._place = node.place(entry.uuid)
        self._launch = launch_of(place)
        if self.ended:
            vm = entry.whole()
            raise ConflictError(f"{vm.name} is stopped", hint=f"start it: v start {vm.name}")
        self.paused = told_of(place).state == "paused"
        """True if the guest was paused when the console was opened."""
        driver = driver_of(self._launch, place)
        terminal = driver.console(place)
        self.sized = terminal.kind == "pty"
        """True if the guest gets the window's size."""
        old, log = place.console_log, place.terminal_log if self.sized else place.console_log
        with ExitStack() as opened, explained(f"open the console of {entry.name}"):
            seat = opened.enter_context(_seat(place.run, log if self.sized else None))
            self.others = len(_holders(seat.fd)) - 1
            """The number of other viewers when this one joined."""
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
        """Unread output of a pty stays there for the next viewer."""
        self._opened.close()

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ended(self) -> bool:
        """True if the VM has stopped since then, also if it was started again."""
        if self._node.process(self._uuid) is None:
            return True
        launch = launch_of(self._place)
        return launch is not None and launch != self._launch

    def filenos(self) -> list[int]:
        """File descriptors for `select`. They do not show all output: `pump` must be called from time to time too."""
        return self._line.filenos()

    def pump(self) -> None:
        """Sends what was typed, as far as the guest reads, and copies what the guest said to the log.

        Raises ConflictError if another viewer blocks the pty, HostError if the log cannot be written.
        """
        self._line.pump()

    def output(self) -> bytes:
        """The next piece of output: first the end of the log, then what is added. Empty if there is nothing new."""
        if self._scrollback:
            text, self._scrollback = self._scrollback, b""
            return text
        if os.fstat(self._log).st_size < self._at:
            self._at = 0  # the file was emptied
        text = os.pread(self._log, _BLOCK, self._at)
        self._at += len(text)
        return text

    def input(self, text: bytes) -> None:
        self._line.input(text)

    def resize(self, rows: int, columns: int) -> None:
        """Tells the guest the window's size if the line can do that. The last call of all viewers counts."""
        self._line.resize(rows, columns)


class _Line:
    """Input through a FIFO."""

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
        """The other side is closed: the VM has ended, or its guest reboots (a pty)."""
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise error
        self.close()

    def pump(self) -> None:
        self._send()

    def resize(self, rows: int, columns: int) -> None:
        """A serial line does not carry a size."""


class _Pty(_Line):
    """A pty. `ask` returns the current one: the guest gets another pty when it reboots."""

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
        # The number of the pty may belong to another terminal by now. It does not if the VMM still names it.
        with suppress(VirshleError):
            if self._ask() == terminal:
                if self._size:
                    self.resize(*self._size)
                return
        self.close()

    def filenos(self) -> list[int]:
        # Not while another viewer reads: until it is done, the pty stays readable, and `select` would return at once.
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
            # With a limit, so that the user can leave although the guest never stops writing.
            for _ in range(64):
                if not (text := self._read()):
                    break
                with explained("keep what the guest says"):
                    while text:
                        text = text[os.write(self._log, text) :]
        finally:
            fcntl.flock(self._log, fcntl.LOCK_UN)

    def _read(self) -> bytes:
        """Empty if there is no output, or if the other side is closed."""
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
                hint=f"continue it (kill -CONT {pids}) or end it (kill -KILL {pids})"
                if pids
                else "look for a stopped `v console`",
            )


def _own(fd: int, path: Path) -> int:
    """Returns `fd` if it is a FIFO or a terminal, else raises OSError: a process that runs as the VMM's user could put
    a link there to a file that only we may write."""
    if stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd):
        return fd
    os.close(fd)
    raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY), str(path))


def _seat(run: Path, trim: Path | None) -> Lock:
    """A lock that every viewer holds. The first viewer also shortens the log `trim`."""
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
    """The end of the first `size` bytes of the log: at most `most` bytes, from the beginning of a line."""
    with suppress(FileNotFoundError), open(log, "rb", opener=no_link) as file:
        end = file.seek(0, os.SEEK_END) if size is None else size
        begin = file.seek(max(end - most, 0))
        text = file.read(end - begin)
        return text[text.find(b"\n") + 1 :] if begin else text
    return b""


def _holders(fd: int) -> list[int]:
    """The pids of the processes that have an flock on a file, from /proc/locks (proc(5)). btrfs and others have another
    device number there; the list is then empty."""
    at = os.fstat(fd)
    place = f"{os.major(at.st_dev):02x}:{os.minor(at.st_dev):02x}:{at.st_ino}"
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return [int(words[4]) for words in lines if words[1] == "FLOCK" and words[5] == place]
