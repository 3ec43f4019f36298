"""Runs plans step by step, and undoes them if a step fails."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, zip_longest
from pathlib import Path
from threading import current_thread, main_thread
from types import TracebackType
from typing import Literal

from virshle import exec as host
from virshle import log
from virshle.errors import HostError, TimedOutError, VirshleError
from virshle.exec import Command, Result
from virshle.fs import Lock, explained, read_end, write_atomic
from virshle.plan.conditions import PATIENCE
from virshle.plan.progress import Follower, Progress, Silent, watch
from virshle.plan.steps import Call, Plan, Run, Step, Wait, Write

Moment = Literal["before", "after", "undo"]
observers: list[Callable[[Moment, Step], None]] = []
"""Called before and after every step. Tests kill the process here."""

POLL = 0.02
"""Seconds between two checks of the condition of a Wait."""


_Begun = tuple[Step, Plan, host.Started | None]

_TAIL = 2**16
"""Bytes at the end of a log in which its last lines are searched."""
NOTHING: Mapping[Path, int] = {}
SIDE_BY_SIDE = 8
"""The number of short commands, each of another plan, that run at the same time."""


class Apply:
    """Applies plans. It is a context manager: if an error (or Ctrl-C) leaves the context, all steps that were applied
    in it are undone, newest first. The error's details list what was undone."""

    def __init__(self, *, dry_run: Callable[[str], None] | None = None, progress: Progress | None = None) -> None:
        """`dry_run`: it gets each step as shell, and no step is run."""
        self.dry_run = dry_run
        self._progress = progress or Silent()
        self._done: list[tuple[Step, Plan]] = []
        self._locks: dict[str | None, list[Lock]] = {}
        self._untold: dict[Path, list[str]] = {}
        self._began: dict[Path, int] = {}
        """The size of each log before the command that writes to it. Everything before belongs to an earlier run."""

    def hold(self, lock: Lock, subject: str | None = None) -> None:
        """Keeps the lock until the end of the context. The short commands of that subject's plans (None: of all plans)
        inherit it: if virshle is interrupted, a command that still runs still holds the lock."""
        self._locks.setdefault(subject, []).append(lock)

    def __call__(self, *plans: Plan) -> None:
        """Makes every step: the first step of each plan, then the second of each, and so on. The short commands of one
        such row run at the same time, so plans given together must not need each other. Raises the error of the first
        step that fails."""
        for plan in plans:
            if plan.steps and self.dry_run is None:
                log.info(f"{plan.subject}: {', '.join(step.why for step in plan.steps)}")
        for steps in zip_longest(*(plan.steps for plan in plans)):
            row = [(step, plan) for step, plan in zip(steps, plans, strict=True) if step is not None]
            if self.dry_run is None:
                self._make_row(row)
                continue
            for step, plan in row:
                self.dry_run(f"# {plan.subject}: {log.one_line(step.why)}\n{log.pasteable(step.shell())}")

    def _make_row(self, row: Sequence[tuple[Step, Plan]]) -> None:
        begun: deque[_Begun] = deque()
        try:
            for step, plan in row:
                if len(begun) == SIDE_BY_SIDE:
                    self._end_oldest(begun)
                _tell("before", step)
                # The step is recorded before it is made, so that a failed or interrupted step is undone too. So an undo
                # must be harmless even if its step was not made at all.
                self._done.append((step, plan))
                begun.append((step, plan, self._begin(step, plan, self._progress)))
            while begun:
                self._end_oldest(begun)
        except BaseException:
            for _, _, started in begun:
                if started is not None:
                    started.kill()
            raise

    def _begin(self, step: Step, plan: Plan, progress: Progress) -> host.Started | None:
        locks = [lock.fd for subject in (None, plan.subject) for lock in self._locks.get(subject, ()) if lock.fd >= 0]
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        _note(plan, f"# {now} {log.one_line(step.why)}\n{step.shell()}\n", self._untold)
        if isinstance(step, Run):
            for file in step.logs:
                self._began.setdefault(file, _size(file))
        with self._failure_noted(step, plan):
            return begin(step, locks, progress, self._began)

    def _end(self, step: Step, plan: Plan, started: host.Started | None) -> None:
        if started is not None:
            with self._failure_noted(step, plan):
                started.end()

    def _end_oldest(self, begun: deque[_Begun]) -> None:
        step, plan, started = begun.popleft()
        self._end(step, plan, started)
        _tell("after", step)

    @contextmanager
    def _failure_noted(self, step: Step, plan: Plan) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if isinstance(step, Run) and isinstance(error, VirshleError):
                error.details += _tails(step.logs, self._began)
            # The text may have a VMM's answer in it. The journal can be pasted into a shell, so each line is a comment.
            said = log.printable(str(error)).replace("\n", "\n#   ")
            _note(plan, f"# failed: {said}\n", self._untold)
            raise

    def commit(self) -> None:
        """The steps that were made so far are not undone if a later step fails."""
        self._done.clear()

    def undo(self) -> list[str]:
        """Undoes all steps, newest first. The lines say what was undone, and what could not be undone."""
        lines = []
        with uninterrupted():
            while self._done:
                step, plan = self._done.pop()
                lines += [self._undo(back, plan) for back in step.undo]
        return lines

    def _undo(self, step: Step, plan: Plan) -> str:
        _tell("undo", step)
        try:
            self._end(step, plan, self._begin(step, plan, Silent()))
        except Exception as error:
            # After any error here, the other steps are still undone. The user must see the first failure as the error.
            return f"could not undo ({error}): {step.shell()}"
        return f"undone: {step.shell()}"

    def __enter__(self) -> Apply:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            undone = self.undo() if error is not None else []
            if isinstance(error, VirshleError):
                error.details += undone
            elif undone:
                log.note("\n".join(undone))
        finally:
            for lock in chain.from_iterable(self._locks.values()):
                lock.release()


def _tell(moment: Moment, step: Step) -> None:
    for observer in observers:
        observer(moment, step)


def _note(plan: Plan, text: str, untold: dict[Path, list[str]]) -> None:
    """Adds lines to the journal before the step is made. The journal is opened for each text, because there may be
    thousands of journals at once. The lines wait in `untold` until the journal's folder exists."""
    if plan.journal is None:
        return
    waiting = untold.setdefault(plan.journal, [])
    waiting.append(text)
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(plan.journal, flags, 0o600)
        try:
            os.write(handle, "".join(waiting).encode(errors="surrogateescape"))
        finally:
            os.close(handle)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warn(f"the command log {plan.journal} cannot be written: {error.strerror}")
    del untold[plan.journal]


_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A second Ctrl-C, or a terminal that closes, does not interrupt the undo. Only the main thread handles signals, so
    other threads need nothing."""
    if current_thread() is not main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def begin(step: Step, locks: list[int], progress: Progress, began: Mapping[Path, int] = NOTHING) -> host.Started | None:
    """Makes one step, or starts its command if that is a short one. Commands and requests write themselves to the log.
    This function writes files and waits to the log."""
    log.why(step.why)
    match step:
        case Run(follow=None, gauge=None):
            return host.start(step.command, locks=locks)
        case Run():
            _run(step, locks, progress)
        case Call():
            step.request.send()
        case Write():
            log.command(step.shell())
            with explained(f"write {step.path.name} ({step.why})"):
                write_atomic(step.path, step.text, step.mode, lasting=step.lasting)
        case Wait():
            log.command(step.shell())
            wait(step, progress, began)
    return None


def _run(step: Run, locks: list[int], progress: Progress) -> None:
    if step.follow is None:
        with watch(step.gauge, progress):
            host.run(step.command, locks=locks)
    else:
        followed(step.command, step.follow, progress, step.why, locks=locks)


def followed(
    command: Command,
    follow: Callable[[Progress, str], Follower],
    progress: Progress,
    title: str,
    *,
    locks: Sequence[int] = (),
) -> Result:
    """Runs a command. Its follower reports to `progress` how far the command is, and knows why it failed.

    Raises HostError."""
    follower = follow(progress, title)
    try:
        result = host.follow(command, follower.line, locks=locks, check=False)
    finally:
        progress.end(title)
    if result.code not in command.ok:
        raise host.failure(result, said=follower.failure(), hint=follower.hint())
    return result


def wait(step: Wait, progress: Progress | None = None, began: Mapping[Path, int] = NOTHING) -> float:
    """Waits, and returns the seconds that it took. Raises TimedOutError, or HostError if the fatal condition is
    true."""
    teller, title = progress or Silent(), f"waiting for {step.why}"
    started = asked = time.monotonic()
    try:
        while True:
            # The time is read before the question: a slow last answer may be older than a change that came after it.
            took = time.monotonic() - started
            if step.until.holds(_patience(took, step.timeout)):
                break
            if step.fatal is not None and step.fatal.holds() and not step.until.holds():
                raise HostError(
                    f"gave up waiting for {step.why}: {step.fatal_why}",
                    hint=step.hint,
                    details=_tails(step.logs, began),
                )
            if took >= step.timeout:
                message = f"gave up waiting for {step.why} after {step.timeout:g} s"
                raise TimedOutError(message, hint=step.hint, details=_tails(step.logs, began))
            if step.again is not None and time.monotonic() - asked >= step.every:
                _ask_again(step.again)
                asked = time.monotonic()
            teller.update(title, took, step.timeout, "s")
            time.sleep(POLL)
    finally:
        teller.end(title)
    return time.monotonic() - started


def _ask_again(step: Step) -> None:
    try:
        if (started := begin(step, [], Silent())) is not None:
            started.end()
    except VirshleError as error:
        # This may fail: the condition may be true by now, and the wait ends after its timeout anyway.
        log.info(f"{step.why}: {error.message}")


def _patience(took: float, timeout: float) -> float:
    """Seconds to wait for one answer. If thirty guests boot on one processor, a server needs long to answer. It needs
    even longer if it gets a new connection again and again before it can answer."""
    return max(PATIENCE, min(took / 4, timeout - took))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _tails(files: tuple[Path, ...], began: Mapping[Path, int]) -> list[str]:
    """The last lines of each log, without lines from before the sizes in `began`. If a log was cut since then, all its
    lines are new."""
    lines = []
    for file in files:
        with suppress(OSError):
            new = _size(file) - began.get(file, 0)
            last = (read_end(file, min(new, _TAIL)) if new >= 0 else read_end(file)).splitlines()[-12:]
            if not last:
                continue
            lines += [f"last lines of {file}:", *(f"  {log.printable(line)}" for line in last)]
    return lines
