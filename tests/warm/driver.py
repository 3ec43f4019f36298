"""Runs `v` and does something to it at a step of its plan: `driver.py ACTION MOMENT NUMBER LIST -- v's arguments`.

ACTION: `none`; `kill` (SIGKILL to itself); `interrupt` (SIGINT, as Ctrl-C); `fill:FOLDER` (no space is left there);
`sh:COMMAND`; and of the step's command, before it begins: `fail` (it does nothing and says so), `lie` (it does its
work and says that it failed), `hang` (it is killed when its time is over, which is one second then).
MOMENT: `before` or `after` the step of that NUMBER, from 1. LIST: a file that gets a line for each step begun.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from virshle.cli.main import run
from virshle.exec import find_program
from virshle.plan import Run, Step, executor

NOBODY = 3
"""The exit code of an `sh:` that found nobody to do it to."""


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**16))
        except OSError:
            pass


WRAPPERS = {
    "fail": "exit 1",
    "lie": '"$real" "$@"; exit 1',
    "hang": "exec sleep 600",
}
"""What comes before the real program in PATH, once."""


MADE = "(the fault is made)"
"""The line in LIST; there is none where the step gave no occasion."""


def wrap(program: str, how: str) -> bool:
    if "/" in program or not (real := find_program(program)):
        return False
    folder = Path(tempfile.mkdtemp(prefix="vw-"))
    folder.chmod(0o755)
    wrapper = folder / program
    path = os.environ["PATH"]
    # Neither itself nor what it calls comes by it again.
    lines = ("#!/bin/sh", f"real={quote(real)} PATH={quote(path)}", 'rm -- "$0"', WRAPPERS[how], "")
    wrapper.write_text("\n".join(lines))
    wrapper.chmod(0o755)
    os.environ["PATH"] = f"{folder}:{path}"
    if how == "hang":
        communicate = subprocess.Popen.communicate

        def hasty(self: Any, input: Any = None, timeout: float | None = None) -> Any:
            return communicate(self, input, 1 if timeout is None else min(timeout, 1))

        subprocess.Popen.communicate = hasty  # type: ignore[method-assign]
    return True


def do(action: str, step: Step) -> bool:
    """Whether there was something to do it to."""
    match action.partition(":"):
        case ("fail" | "lie" | "hang", _, _):
            return isinstance(step, Run) and wrap(step.command.argv[0], action)
        case ("kill", _, _):
            os.kill(os.getpid(), signal.SIGKILL)
        case ("interrupt", _, _):
            os.kill(os.getpid(), signal.SIGINT)
        case ("fill", _, folder):
            fill(Path(folder))
        case ("sh", _, command):
            done = subprocess.run(["sh", "-c", command], check=False, stdout=subprocess.DEVNULL)
            assert done.returncode in (0, NOBODY), f"{command} exited with {done.returncode}"
            return done.returncode == 0
    return True


def play(action: str, moment: str, number: int, steps: Path, words: Sequence[str]) -> None:
    """Ends as `v` does: by SystemExit."""
    seen = {"before": 0, "after": 0, "undo": 0}

    def observe(now: str, step: Step) -> None:
        seen[now] += 1
        if now == "before":
            with steps.open("a") as file:
                file.write(step.why + "\n")
        if now == moment and seen[now] == number:
            before = steps.read_text() if steps.exists() else ""
            # Who kills itself says so first.
            steps.write_text(before + MADE + "\n")
            if not do(action, step):
                steps.write_text(before)

    executor.observers.append(observe)
    sys.argv = ["v", *words]
    sys.exit(run())


if __name__ == "__main__":
    play(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), sys.argv[6:])
