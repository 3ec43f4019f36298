"""The four kinds of step. Pure data: making one, or a plan of them, touches nothing."""

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
    """How far a long one is, seen from outside."""
    follow: Callable[[Progress, str], Follower] | None = None
    """The kind of reader of a long one's stderr; it is made with the progress to tell and the step's reason."""
    logs: tuple[Path, ...] = ()
    """Their last lines are shown when it fails."""

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
    """A whole file of lines, written atomically."""

    why: str
    path: Path
    text: str
    mode: int = 0o600
    undo: tuple[Step, ...] = ()
    lasting: bool = True
    """Written to the disk at once; False where a later step sees to that."""

    def __post_init__(self) -> None:
        if self.text and not self.text.endswith("\n"):
            raise ValueError("a file of lines ends with one: what is shown, a here document, could do no other")

    def shell(self) -> str:
        path, text = shlex.quote(str(self.path)), self.text
        mark = "EOF"
        while mark in text.splitlines():
            mark += "_"
        return f"install -m {self.mode:04o} /dev/stdin {path}.new <<'{mark}'\n{text}{mark}\nmv -T {path}.new {path}"


@dataclass(frozen=True)
class Wait:
    """A condition that must come true within `timeout` seconds, unless `fatal` comes true before it."""

    why: str
    until: Condition
    timeout: float
    fatal: Condition | None = None
    fatal_why: str = "its process has ended"
    logs: tuple[Path, ...] = ()
    """Their last lines are shown when it fails."""
    hint: str = ""
    again: Step | None = None
    """Made every `every` seconds as long as it is waited: who was asked may not have been there yet. It may fail."""
    every: float = 5.0
    undo: tuple[Step, ...] = ()

    def shell(self) -> str:
        stop = f"{self.fatal.shell()} && exit 1; " if self.fatal else ""
        loop = f"until {self.until.shell()}; do {stop}sleep 0.1; done"
        if self.again:
            # 124: of timeout(1). Within the other loop, so that the condition is looked at as often as without.
            asked = f"timeout {self.every:g} bash -c {shlex.quote(loop)}"
            loop = f"until {asked}; do [ $? = 124 ] || exit; {self.again.shell()}; done"
        # To timeout(1) nothing means for ever.
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
    """What was made under another name gets its own when every byte is on the disk: after a power cut too, who finds it
    finds it whole. `unless`: words before the commands."""
    return [
        run("write it to the disk", *unless, "sync", "--", part),
        run("it is whole", *unless, "mv", "-T", "--", part, target),
    ]


@dataclass(frozen=True)
class Plan:
    """The steps of one phase, for one subject."""

    subject: str
    """Whom it is for, a VM's name, say."""
    steps: Sequence[Step]
    journal: Path | None = None
    """The file in which the subject keeps every command ever run for it."""
