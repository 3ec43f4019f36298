"""`v --version` beside the least a command line with click can take."""

from __future__ import annotations

import sys

from benchmarks.measure import Options, Row, at_most_times, command, medians
from benchmarks.place import V, environment, folder


def run(options: Options) -> list[Row]:
    with folder() as top:
        env = environment(top)
        ours, peer = medians(
            options.rounds * 4,
            lambda: command([V, "--version"], env),
            lambda: command([sys.executable, "-c", "import click"], env),
        )
    return [at_most_times("v --version", ours, "python -c 'import click'", peer, 1.5)]
