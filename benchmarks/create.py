"""What each further VM of one `v create` costs, beside the same commands pasted into a shell.

All is on one XFS, image and VMs, as on a host whose disk is XFS: only there is a clone a reflink.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.measure import Options, Row, command, medians, ms, output
from benchmarks.place import V, environment, file_system

_MANY = 100
_GOAL = 0.010
"""Seconds for each VM."""


def run(options: Options) -> list[Row]:
    with file_system("xfs", 2**33) as place:
        env = environment(place)
        subprocess.run([V, "image", "build", "tiny"], env=env, check=True)
        _move_image(place)

        def ours(count: int) -> float:
            took = command([V, "create", "-t", "tiny", "-n", str(count)], env)
            _empty(env, count)
            return took

        def pasted(count: int) -> float:
            shown = output([V, "create", "-t", "tiny", "-n", str(count), "--dry-run"], env)
            took = command(["bash", "-eu"], env, text=f"umask 077\n{shown}")
            _empty(env, count)
            return took

        one, many, pasted_one, pasted_many = medians(
            max(options.rounds // 2, 3),
            lambda: ours(1),
            lambda: ours(_MANY),
            lambda: pasted(1),
            lambda: pasted(_MANY),
        )
    each, by_hand = ((last - first) / (_MANY - 1) for first, last in ((one, many), (pasted_one, pasted_many)))
    what = f"v create -n {_MANY} -t tiny, XFS: each VM after the first"
    goal = f"<= {_GOAL * 1000:g} ms"
    return [Row(what, ms(each), "bash, its --dry-run pasted", ms(by_hand), ms(each), goal, each <= _GOAL)]


def _move_image(place: Path) -> None:
    """From the Nix store, which is on another file system here."""
    folder = place / "s/image/tiny"
    link = folder / "result"
    shutil.copytree(link.resolve(), place / "tiny")
    link.unlink()
    link.symlink_to(place / "tiny")
    # It says where the image was before.
    (folder / "image.json").unlink()


def _empty(env: dict[str, str], count: int) -> None:
    """Raises AssertionError where not all were there."""
    assert len(output([V, "ls", "-q"], env).split()) == count
    subprocess.run([V, "delete", "--all", "--yes"], env=env, check=True, capture_output=True)
    subprocess.run(["sync", "--file-system", env["VIRSHLE_STATE_DIR"]], check=True)
