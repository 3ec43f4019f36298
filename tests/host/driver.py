"""Runs `v` and does something to it at a step of its plan: `driver.py ACTION MOMENT NUMBER LIST -- v's arguments`.

ACTION: `none`; `kill` (SIGKILL to itself); `interrupt` (SIGINT, as Ctrl-C); `fill:FOLDER` (no space is left there);
`sh:COMMAND`. MOMENT: `before` or `after` the step of that NUMBER, from 1. LIST: a file that gets a line for each step
begun.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from virshle.cli.main import main
from virshle.plan import Step, executor


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**16))
        except OSError:
            pass


def do(action: str) -> None:
    match action.partition(":"):
        case ("kill", _, _):
            os.kill(os.getpid(), signal.SIGKILL)
        case ("interrupt", _, _):
            os.kill(os.getpid(), signal.SIGINT)
        case ("fill", _, folder):
            fill(Path(folder))
        case ("sh", _, command):
            subprocess.run(["sh", "-c", command], check=True, stdout=subprocess.DEVNULL)


def play(action: str, moment: str, number: int, steps: Path, words: Sequence[str]) -> None:
    """Ends as `v` does: by SystemExit."""
    seen = {"before": 0, "after": 0, "undo": 0}

    def observe(now: str, step: Step) -> None:
        seen[now] += 1
        if now == "before":
            with steps.open("a") as file:
                file.write(step.why + "\n")
        if now == moment and seen[now] == number:
            do(action)

    executor.observers.append(observe)
    sys.argv = ["v", *words]
    main()


if __name__ == "__main__":
    play(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), sys.argv[6:])
