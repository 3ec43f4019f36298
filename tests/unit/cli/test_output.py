from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest

from virshle.cli.output import Bars, print_details, print_rows

ROWS: list[dict[str, Any]] = [
    {"name": "a", "size": 2**20, "on": True, "note": None},
    {"name": "longer", "size": 0, "on": False, "note": 'x, "y"\nz: [1]'},
]
COLUMNS = ("name", "size", "on", "note")


def _print(form: str, **more: Any) -> None:
    print_rows(ROWS, form=form, columns=None, default=COLUMNS, known=COLUMNS, bytes_in=("size",), **more)


def test_a_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS[:1], form="table", columns=None, default=COLUMNS, known=COLUMNS, bytes_in=("size",))
    assert capsys.readouterr().out == "NAME  SIZE  ON   NOTE\na     1MiB  yes  -\n"


def test_json_and_yaml_hold_the_values_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    _print("json")
    assert json.loads(capsys.readouterr().out) == ROWS
    _print("yaml")
    lines = capsys.readouterr().out.splitlines()
    values = [json.loads(line.split(": ", 1)[1]) for line in lines]
    assert values == [value for row in ROWS for value in row.values()]
    assert [line[:2] for line in lines] == ["- ", "  ", "  ", "  "] * 2


def test_details_are_a_tree(capsys: pytest.CaptureFixture[str]) -> None:
    print_details(
        [{"name": "web", "memory": 2**30, "boot": {"kind": "k"}, "disks": [{"name": "os", "size": 512}]}], "table"
    )
    assert capsys.readouterr().out == (
        "name    web\nmemory  1GiB\nboot:\n  kind  k\ndisks:\n  name  os\n  size  512B\n"
    )


class _Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: False)


def test_where_there_is_no_terminal_progress_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, bars = _Clock(monkeypatch), Bars()
    for _ in range(2100):
        bars.update("build", 2**20, 2**30, "B", "now\x1b[2J")
        clock.now += 0.01
    bars.end("build")
    assert capsys.readouterr().err == "build: 1MiB of 1GiB now\\x1b[2J\n" * 2


def test_what_is_short_is_not_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock, bars = _Clock(monkeypatch), Bars()
    for title in ("a", "b", "c") * 20:
        bars.update(title, 1, 2)
        clock.now += 0.4
        bars.end(title)
    assert capsys.readouterr().err == ""


def test_of_two_at_once_the_end_of_one_is_not_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, bars = _Clock(monkeypatch), Bars()
    bars.update("long", 1, 2)
    for _ in range(12):
        bars.update("short", 1, 2)
        clock.now += 1
        bars.end("short")
        bars.update("long", 1, 2)
    assert capsys.readouterr().err == "long: 1 of 2\n"
