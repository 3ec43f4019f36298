"""Runs plans, step by step, and undoes them when one fails."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import current_thread, main_thread
from types import TracebackType
from typing import IO, Literal

from virshle import exec as host
from virshle import log
from virshle.errors import HostError, TimedOutError, VirshleError
from virshle.fs import Lock, explained, write_atomic
from virshle.plan.progress import Progress, Silent, watch
from virshle.plan.steps import Call, Plan, Run, Step, Wait, Write

Moment = Literal["before", "after", "undo"]
observers: list[Callable[[Moment, Step], None]] = []
"""Told of every step before and after it is made; tests kill the process here."""

POLL = 0.02
"""Seconds between two looks at the condition of a Wait."""


class Apply:
    """Applies plans. Used as a context: an error (or Ctrl-C) that leaves it undoes all that was applied in it,
    newest first, and carries the list of what was undone."""

    def __init__(self, *, dry_run: Callable[[str], None] | None = None, progress: Progress | None = None) -> None:
        """`dry_run`: is given each step as shell, and nothing is done."""
        self.dry_run = dry_run
        self._progress = progress or Silent()
        self._done: list[tuple[Step, _Journal]] = []
        self._locks: list[Lock] = []
        self._journals: dict[Path | None, _Journal] = {}

    def hold(self, lock: Lock) -> None:
        """Hands this lock to every short command, and keeps it until the end of the context."""
        self._locks.append(lock)

    def __call__(self, plan: Plan) -> None:
        """Makes every step of the plan. Raises what the first failing step raises."""
        journal = self._journals.setdefault(plan.journal, _Journal(plan.journal))
        for step in plan.steps:
            if self.dry_run:
                self.dry_run(f"# {plan.subject}: {step.why}\n{step.shell()}")
                continue
            self._make(step, journal)

    def _make(self, step: Step, journal: _Journal) -> None:
        for observer in observers:
            observer("before", step)
        journal.write(step)
        # Recorded before it is made, so that half of a failed or interrupted step is undone too: an undo must
        # be harmless where its step was not made at all.
        self._done.append((step, journal))
        try:
            make(step, [lock.fd for lock in self._locks if lock.fd >= 0], self._progress)
        except VirshleError as error:
            journal.failed(error)
            raise
        for observer in observers:
            observer("after", step)

    def commit(self) -> None:
        """What was done so far stays, whatever fails later."""
        self._done.clear()

    def undo(self) -> list[str]:
        """Undoes everything, newest first; the lines say what was undone, and what could not be."""
        lines = []
        with _uninterrupted():
            while self._done:
                step, journal = self._done.pop()
                lines += [self._undo(back, journal) for back in step.undo]
        return lines

    def _undo(self, step: Step, journal: _Journal) -> str:
        for observer in observers:
            observer("undo", step)
        journal.write(step)
        try:
            make(step, [lock.fd for lock in self._locks if lock.fd >= 0], Silent())
        except Exception as error:
            # Whatever it is: the rest is undone all the same, and the first failure stays the one that is told.
            journal.failed(error)
            return f"could not undo ({error}): {step.shell()}"
        return f"undone: {step.shell()}"

    def __enter__(self) -> Apply:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                undone = self.undo()
                if isinstance(error, VirshleError):
                    error.details += undone
                elif undone:
                    log.note("\n".join(undone))
        finally:
            for journal in self._journals.values():
                journal.close()
            for lock in self._locks:
                lock.release()


_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C, or a terminal that is closed, does not cut the undoing short."""
    if current_thread() is not main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make(step: Step, locks: list[int], progress: Progress) -> None:
    """Makes one step. Commands and requests show themselves; files and waits are shown here."""
    log.why(step.why)
    match step:
        case Run():
            _run(step, locks, progress)
        case Call():
            step.request.send()
        case Write():
            log.command(step.shell())
            with explained(f"write {step.path.name} ({step.why})"):
                write_atomic(step.path, step.text, step.mode)
        case Wait():
            log.command(step.shell())
            wait(step, progress)


def _run(step: Run, locks: list[int], progress: Progress) -> None:
    if step.follow is None:
        with watch(step.gauge, progress):
            host.run(step.command, locks=locks)
        return
    follower = step.follow(progress)
    try:
        result = host.follow(step.command, follower.line, locks=locks, check=False)
    finally:
        progress.end()
    if result.code not in step.command.ok:
        how = f"`{step.command.argv[0]}` failed with exit code {result.code}"
        raise HostError(how, details=[f"command: {step.shell()}", *follower.failure()])


def wait(step: Wait, progress: Progress | None = None) -> float:
    """Seconds it took. Raises TimedOutError, or HostError when the fatal condition came true."""
    teller = progress or Silent()
    started = time.monotonic()
    try:
        while not step.until.holds():
            took = time.monotonic() - started
            if step.fatal is not None and step.fatal.holds() and not step.until.holds():
                raise HostError(
                    f"gave up waiting for {step.why}: {step.fatal_why}", hint=step.hint, details=_tails(step.logs)
                )
            if took >= step.timeout:
                message = f"gave up waiting for {step.why} after {step.timeout:g} s"
                raise TimedOutError(message, hint=step.hint, details=_tails(step.logs))
            teller.update(f"waiting for {step.why}", took, step.timeout, "s")
            time.sleep(POLL)
    finally:
        teller.end()
    return time.monotonic() - started


def _tails(files: tuple[Path, ...]) -> list[str]:
    lines = []
    for file in files:
        with suppress(OSError):
            last = file.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
            lines += [f"last lines of {file}:", *(f"  {log.printable(line)}" for line in last)]
    return lines


class _Journal:
    """The command log of one subject. Lines wait until its folder is there; once open it follows renames."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._waiting: list[str] = []
        self._file: IO[str] | None = None

    def write(self, step: Step) -> None:
        self._line(f"# {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {step.why}\n{step.shell()}\n")

    def failed(self, error: Exception) -> None:
        self._line(f"# failed: {log.printable(str(error))}\n")

    def _line(self, text: str) -> None:
        if self._path is None:
            return
        self._waiting.append(text)
        try:
            self._file = self._file or os.fdopen(_private(self._path), "a", encoding="utf-8", errors="surrogateescape")
            self._file.write("".join(self._waiting))
            self._file.flush()
            self._waiting.clear()
        except FileNotFoundError:
            return
        except OSError as error:
            log.warn(f"the command log {self._path} cannot be written: {error.strerror}")

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # told when it was written
                self._file.close()


def _private(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
