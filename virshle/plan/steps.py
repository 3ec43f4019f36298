"""The four kinds of steps. They are pure data: to make a step or a plan changes nothing on the host."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from virshle.exec import Command, text_of
from virshle.plan.conditions import Condition, Request
from virshle.plan.progress import Follower, Gauge, Progress


@dataclass(frozen=True)
class Run:
    """A host command."""

    why: str
    command: Command
    undo: tuple[Step, ...] = ()
    gauge: Gauge | None = None
    """Shows how far a long command is, from the size of its files."""
    follow: Callable[[Progress, str], Follower] | None = None
    """Makes the reader for the stderr of a long command. It gets the progress to report to, and the step's reason."""
    logs: tuple[Path, ...] = ()
    """Their last lines are shown if the command fails."""

    def shell(self) -> str:
        return self.command.shell()


@dataclass(frozen=True)
class Call:
    """One request to the VMM."""

    why: str
    request: Request
    undo: tuple[Step, ...] = ()

    def shell(self) -> str:
        return self.request.shell()


@dataclass(frozen=True)
class Write:
    """A complete file of lines. It is written atomically."""

    why: str
    path: Path
    text: str
    mode: int = 0o600
    undo: tuple[Step, ...] = ()
    lasting: bool = True
    """The file is written to the disk at once. False if a later step does that."""

    def __post_init__(self) -> None:
        if self.text and not self.text.endswith("\n"):
            raise ValueError("the text must end with a newline: the shell form is a here document, which always does")

    def shell(self) -> str:
        path, text = shlex.quote(str(self.path)), self.text
        mark = "EOF"
        while mark in text.splitlines():
            mark += "_"
        return f"install -m {self.mode:04o} /dev/stdin {path}.new <<'{mark}'\n{text}{mark}\nmv -T {path}.new {path}"


@dataclass(frozen=True)
class Wait:
    """A condition that must become true within `timeout` seconds. The wait fails if `fatal` becomes true first."""

    why: str
    until: Condition
    timeout: float
    fatal: Condition | None = None
    fatal_why: str = "its process has ended"
    logs: tuple[Path, ...] = ()
    """Their last lines are shown if the wait fails."""
    hint: str = ""
    again: Step | None = None
    """A step that is repeated every `every` seconds during the wait: the first request may have come too early. The
    step may fail."""
    every: float = 5.0
    undo: tuple[Step, ...] = ()

    def shell(self) -> str:
        stop = f"{self.fatal.shell()} && exit 1; " if self.fatal else ""
        loop = f"until {self.until.shell()}; do {stop}sleep 0.1; done"
        if self.again:
            # timeout(1) exits with 124. The inner loop checks the condition as often as a wait without `again`.
            asked = f"timeout {self.every:g} bash -c {shlex.quote(loop)}"
            loop = f"until {asked}; do [ $? = 124 ] || exit; {self.again.shell()}; done"
        # For timeout(1), 0 means no limit.
        return f"timeout {max(self.timeout, 0.1):g} bash -c {shlex.quote(loop)}"


Step = Run | Call | Write | Wait


def run(
    why: str,
    *argv: str | Path,
    undo: Sequence[Step] = (),
    gauge: Gauge | None = None,
    timeout: float = 60.0,
    env: Mapping[str, str] | None = None,
    ok: tuple[int, ...] = (0,),
    cwd: Path | None = None,
) -> Run:
    """A Run of an ordinary command."""
    command = Command(text_of(argv), timeout=timeout, env=env or {}, ok=ok, cwd=cwd)
    return Run(why, command, tuple(undo), gauge)


def whole(part: Path, target: Path, *unless: str | Path) -> list[Step]:
    """Steps that rename a file from its temporary name `part` to `target` after all its bytes are on the disk. So a
    file named `target` is complete, even after a power cut. `unless`: words before the commands."""
    return [
        run("write it to the disk", *unless, "sync", "--", part),
        run("it is whole", *unless, "mv", "-T", "--", part, target),
    ]


@dataclass(frozen=True)
class Plan:
    """The steps of one phase, for one subject."""

    subject: str
    """The thing that is changed, for example a VM's name."""
    steps: Sequence[Step]
    journal: Path | None = None
    """The file that records every command that was ever run for the subject."""
