"""Measures what is named, or everything, and prints a table: `scripts/bench`."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import click

from benchmarks.measure import NotMeasured, Options, Row

NAMES = ("version", "listing", "clone", "create", "start")
_HEAD = ("what", "virshle", "beside", "takes", "figure", "goal", "met")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar="[NAME]...")
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True, help="More are slower and calmer.")
@click.option("--data", type=click.IntRange(1), default=2048, show_default=True, help="MiB in the image to clone.")
def main(names: tuple[str, ...], rounds: int, data: int) -> None:
    """Measure virshle beside what one would use instead. NAME: version, listing, clone, create or start; all if
    left out.

    Exits with 1 where a goal is not met, or a command failed.
    """
    rows: list[Row] = []
    failed = False
    for name in names or NAMES:
        click.secho(f"measuring: {name}", bold=True, err=True)
        try:
            rows += importlib.import_module(f"benchmarks.{name}").run(Options(rounds, data * 2**20))
        except NotMeasured as why:
            click.secho(f"not measured: {name}: {why}", fg="yellow", err=True)
        except subprocess.CalledProcessError as error:
            failed = True
            click.secho(f"failed: {name}: {error}\n{error.stderr or ''}", fg="red", err=True)
    click.echo(f"{_machine()}\n")
    click.echo(_table(rows))
    sys.exit(1 if failed or not all(row.met for row in rows) else 0)


def _machine() -> str:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "a processor")
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{os.cpu_count()} x {model}, Linux {os.uname().release}, Python {python}, load {busy}"


def _table(rows: list[Row]) -> str:
    cells = [_HEAD, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, tuple("-" * width for width in widths))
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in cells)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.what,
        row.ours,
        f"`{row.peer_is}`",
        row.peer,
        row.figure,
        row.goal,
        "yes" if row.met else "NO",
    )


main()
