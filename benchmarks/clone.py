"""The steps of virshle's own plan that clone an image, beside the bare `cp`."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from benchmarks.measure import Options, Row, at_most_more, at_most_times, command, medians
from benchmarks.place import environment, file_system
from virshle.cli.output import Bars
from virshle.disk import clone
from virshle.model.units import format_size
from virshle.plan import Apply, Plan

_SIZE = 20 * 2**30
_PIECE = 2**24
"""Bytes of data between two holes."""
_NOISE = 1.05
"""Both sides are the same command; on a busy disk even their medians differ."""


def run(options: Options) -> list[Row]:
    what = f"clone {format_size(_SIZE)} with {format_size(options.data)} of data"
    with file_system("xfs", options.data + 2**32) as place:
        ours, peer = _times(place, options, "--reflink=always")
        rows = [at_most_more(f"{what}, XFS", ours, "cp --reflink=always", peer, 0.005)]
    with file_system("ext4", 2 * options.data + 2**32) as place:
        ours, peer = _times(place, options, "--sparse=always")
        rows.append(at_most_times(f"{what}, ext4", ours, "cp --sparse=always", peer, _NOISE))
    return rows


def _times(place: Path, options: Options, how: str) -> list[float]:
    source, target = place / "source.raw", place / "target.raw"
    _make(source, options.data)
    env = environment(place)

    def ours() -> float:
        _fresh(target)
        began = time.perf_counter()
        with Apply(progress=Bars()) as apply:
            apply(Plan("web", clone(source, target, image=_SIZE, size=_SIZE), journal=place / "commands.log"))
        return time.perf_counter() - began

    def peer() -> float:
        _fresh(target)
        return command(["cp", how, source, target], env)

    return medians(options.rounds, ours, peer)


def _make(path: Path, data: int) -> None:
    block = os.urandom(_PIECE)
    with path.open("wb") as file:
        file.truncate(_SIZE)
        for offset in range(0, _SIZE, _SIZE * _PIECE // data):
            file.seek(offset)
            file.write(block)


def _fresh(target: Path) -> None:
    """No copy is there, and none of the last one's work is left to be done."""
    target.unlink(missing_ok=True)
    subprocess.run(["sync", "--file-system", target.parent], check=True)
