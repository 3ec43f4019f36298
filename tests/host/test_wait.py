"""A wait as it is shown, pasted into a shell."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from virshle.plan import Wait, run


@dataclass(frozen=True)
class Exists:
    path: Path

    def shell(self) -> str:
        return f"[ -e '{self.path}' ]"

    def holds(self, patience: float = 0) -> bool:
        return self.path.exists()


def test_it_asks_again_until_it_is_so(tmp_path: Path) -> None:
    """What is asked for comes with the second time."""
    asked, there = tmp_path / "it's asked", tmp_path / "there"
    again = run("ask", "sh", "-c", '[ ! -e "$1" ] || touch "$2"; touch "$1"', "sh", asked, there)
    step = Wait("it", Exists(there), 60, again=again, every=0.2)
    subprocess.run(["bash", "-c", step.shell()], check=True, timeout=90)
    assert asked.exists()


def test_what_cannot_come_true_any_more_ends_it(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    again = run("ask", "touch", gone)
    step = Wait("it", Exists(tmp_path / "there"), 60, fatal=Exists(gone), again=again, every=0.2)
    done = subprocess.run(["bash", "-c", step.shell()], check=False, timeout=50)
    assert done.returncode == 1


def test_it_is_bounded(tmp_path: Path) -> None:
    step = Wait("it", Exists(tmp_path / "there"), 1, again=run("ask", "true"), every=0.2)
    assert subprocess.run(["bash", "-c", step.shell()], check=False, timeout=50).returncode == 124
