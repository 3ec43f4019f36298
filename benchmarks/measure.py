"""Takes times so that a busy machine falls on both sides alike, and says what came of it."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Timed = Callable[[], float]
"""Does something and gives the seconds of the part that counts."""


class NotMeasured(Exception):
    """Why this machine, or whoever asks, cannot have that benchmark."""


@dataclass(frozen=True)
class Options:
    rounds: int
    data: int
    """Bytes of data in the image that is cloned."""


@dataclass(frozen=True)
class Row:
    """One figure, as it is shown."""

    what: str
    ours: str
    peer_is: str
    peer: str
    figure: str
    goal: str
    met: bool


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def at_most_times(what: str, ours: float, peer_is: str, peer: float, most: float, more: float = 0) -> Row:
    """Seconds. `more`: are allowed on top of so many times."""
    goal = f"<= {most:.2f} x" + (f" + {more * 1000:g} ms" if more else "")
    return Row(what, ms(ours), peer_is, ms(peer), f"{ours / peer:.2f} x", goal, ours <= peer * most + more)


def at_most_more(what: str, ours: float, peer_is: str, peer: float, most: float) -> Row:
    """Seconds."""
    more = ours - peer
    return Row(what, ms(ours), peer_is, ms(peer), f"{more * 1000:+.1f} ms", f"<= +{most * 1000:g} ms", more <= most)


def medians(rounds: int, *sides: Timed) -> list[float]:
    """Of each side, made in turns: forwards in one round, backwards in the next. A first round is not counted."""
    found: list[list[float]] = [[] for _ in sides]
    for number in range(rounds + 1):
        order = list(enumerate(sides))
        for index, side in order if number % 2 else reversed(order):
            took = side()
            if number:
                found[index].append(took)
    return [statistics.median(times) for times in found]


def command(argv: Sequence[str | Path], env: Mapping[str, str], *, text: str | None = None) -> float:
    """Seconds of a whole command, from its start to its end; what it prints goes nowhere. Raises CalledProcessError."""
    began = time.perf_counter()
    subprocess.run(argv, env=env, input=text, text=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return time.perf_counter() - began


def output(argv: Sequence[str | Path], env: Mapping[str, str], *, text: str | None = None) -> str:
    return subprocess.run(argv, env=env, input=text, text=True, check=True, capture_output=True).stdout
