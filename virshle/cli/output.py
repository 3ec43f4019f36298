"""Data on stdout as a table, JSON, YAML or CSV; progress on stderr."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from virshle import log
from virshle.cli import streams
from virshle.errors import HostError, UsageError, near
from virshle.model.units import format_size

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

FORMATS = ("table", "json", "yaml", "csv")
_COLOURS = {"running": "green", "paused": "yellow", "crashed": "red", "broken": "red", "unknown": "yellow"}

Row = Mapping[str, Any]


def print_rows(
    rows: Sequence[Row],
    *,
    form: str,
    columns: str | None,
    default: Sequence[str],
    known: Sequence[str],
    quiet: bool = False,
    bytes_in: Sequence[str] = (),
) -> None:
    """`default`: the columns of a table; `known`: all columns. `bytes_in`: columns with a number of bytes."""
    if quiet:
        for row in rows:
            click.echo(_tamed(str(row["name"])))
        return
    chosen = _columns(columns, default if form == "table" else known, known)
    data = [{column: row.get(column) for column in chosen} for row in rows]
    if form == "json":
        click.echo(json.dumps(data, indent=2, default=str))
    elif form == "yaml":
        click.echo(_yaml(data), nl=False)
    elif form == "csv":
        import csv

        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(chosen)
        writer.writerows([[_csv(value) for value in row.values()] for row in data])
        click.echo(_tamed(text.getvalue()), nl=False)
    else:
        _table(chosen, [{k: _cell(k, v, bytes_in) for k, v in row.items()} for row in data])


def _tamed(text: str) -> str:
    """A program that reads the output gets it unchanged; a terminal gets no control characters."""
    return log.printable(text) if sys.stdout.isatty() else text


def _csv(value: Any) -> Any:
    """true and false as in JSON; an unknown value is empty."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, bool) else value


def _columns(asked: str | None, default: Sequence[str], known: Sequence[str]) -> list[str]:
    if asked is None:
        return list(default)
    if asked == "all":
        return list(known)
    chosen = [column.strip() for column in asked.split(",") if column.strip()]
    if not chosen:
        raise UsageError("-c names no column", hint=f"the columns are: {', '.join(known)}")
    for column in chosen:
        if column not in known:
            close = near(column, known)
            hint = f"did you mean {' or '.join(close)}?" if close else f"the columns are: {', '.join(known)}"
            raise UsageError(f"no column {column!r}", hint=hint)
    return chosen


def _cell(column: str, value: Any, bytes_in: Sequence[str]) -> str:
    if value is None:
        return "-"
    if column in bytes_in:
        return format_size(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    # Each row of a table is one line.
    return log.one_line(str(value))


def _table(columns: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    widths = [max([len(column), *(len(row[column]) for row in rows)]) for column in columns]
    heads = [column.upper().ljust(width) for column, width in zip(columns, widths, strict=True)]
    lines = [streams.styled(sys.stdout, "  ".join(heads).rstrip(), bold=True)]
    for row in rows:
        cells = [row[column].ljust(width) for column, width in zip(columns, widths, strict=True)]
        if "state" in columns and (colour := _COLOURS.get(row["state"])):
            at = columns.index("state")
            cells[at] = streams.styled(sys.stdout, cells[at], fg=colour)
        lines.append("  ".join(cells).rstrip())
    click.echo("\n".join(lines))


def _yaml(value: Any, indent: int = 0) -> str:
    """YAML. Its scalars are written as JSON, which is valid YAML."""
    pad = "  " * indent
    if isinstance(value, Mapping) and value:
        lines = ""
        for key, item in value.items():
            nested = isinstance(item, Mapping | list) and item
            lines += f"{pad}{key}:" + (f"\n{_yaml(item, indent + 1)}" if nested else f" {_scalar(item)}\n")
        return lines
    if isinstance(value, list) and value:
        lines = ""
        for item in value:
            text = _yaml(item, indent + 1)
            lines += f"{pad}- {text.lstrip()}"
        return lines
    return f"{pad}{_scalar(value)}\n"


def _scalar(value: Any) -> str:
    return json.dumps(value, default=str)


def print_details(found: Sequence[Row], form: str, bytes_in: Sequence[str] = ("memory", "size")) -> None:
    """Prints everything that is known about each thing. As json or yaml it is a list, also for one thing."""
    if form == "json":
        click.echo(json.dumps(found, indent=2, default=str))
    elif form == "yaml":
        click.echo(_yaml(json.loads(json.dumps(found, default=str))), nl=False)
    else:
        for index, one in enumerate(found):
            if index:
                click.echo()
            _print_tree(one, bytes_in, 0)


def _print_tree(found: Mapping[str, Any], bytes_in: Sequence[str], indent: int) -> None:
    pad = "  " * indent
    width = max((len(key) for key, value in found.items() if not isinstance(value, Mapping | list)), default=0)
    for key, value in found.items():
        if isinstance(value, Mapping):
            click.echo(f"{pad}{key}:")
            _print_tree(value, bytes_in, indent + 1)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, Mapping) or index == 0:
                    click.echo(f"{pad}{key}:")
                if isinstance(item, Mapping):
                    _print_tree(item, bytes_in, indent + 1)
                else:
                    click.echo(f"{pad}  {_cell(key, item, bytes_in)}")
        else:
            click.echo(f"{pad}{key.ljust(width)}  {_cell(key, value, bytes_in)}")


def print_names(names: Sequence[str], done: str) -> None:
    """Prints the names of what a command made, one per line. Raises HostError if they cannot be written: its message
    says that the work is `done` all the same. Raises BrokenPipeError if nobody reads."""
    try:
        click.echo("\n".join(names))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise HostError(
            f"{done} {', '.join(names)}, but stdout cannot be written to: {error.strerror}",
            hint="the work is done: do not run the command again",
        ) from error


class Bars:
    """Progress: bars on a terminal; else a line from time to time, for a log. Any thread may call it."""

    FIRST, QUIET = 0.5, 10.0
    """Seconds until a task gets a bar, and seconds between two lines if there is no terminal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._bars: RichProgress | None = None

    def update(self, title: str, done: float, total: float, unit: str = "", now: str = "") -> None:
        clock = time.monotonic()
        with self._lock:
            if clock - self._began.setdefault(title, clock) < self.FIRST:
                return
            if log.drawn(sys.stderr):
                self._draw(title, done, total, unit, now)
            elif clock - self._told.setdefault(title, self._began[title]) >= self.QUIET:
                self._told[title] = clock
                log.note(f"{title}: {_amount(done, total, unit)} {log.printable(now)}".rstrip())

    def _draw(self, title: str, done: float, total: float, unit: str, now: str) -> None:
        if self._bars is None:
            self._bars = _new_bars()
            self._bars.start()
        if title not in self._tasks:
            self._tasks[title] = self._bars.add_task(log.printable(title), total=None, amount="", now="")
        self._bars.update(
            self._tasks[title],
            completed=done,
            # Seconds that pass are no progress, so this bar shows no total.
            total=None if unit == "s" else total or None,
            amount=_amount(done, total, unit),
            now=log.printable(now)[:60],
        )

    def end(self, title: str) -> None:
        with self._lock:
            self._began.pop(title, None)
            self._told.pop(title, None)
            task = self._tasks.pop(title, None)
            if self._bars is not None and task is not None:
                self._bars.remove_task(task)
            if self._bars is not None and not self._tasks:
                self._bars.stop()
                self._bars = None


def _new_bars() -> RichProgress:
    # Slow to import, and only needed when something takes long.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[amount]}  {task.fields[now]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )


def _amount(done: float, total: float, unit: str) -> str:
    if unit == "B":
        return f"{format_size(int(done))} of {format_size(int(total))}" if total else format_size(int(done))
    if unit == "s":
        return f"{done:.0f} s (at most {total:.0f})"
    return f"{done:.0f} of {total:.0f} {unit}".rstrip() if total else ""
