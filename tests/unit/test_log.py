from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from virshle import log

_SAID: dict[int, tuple[Callable[[str], None], str]] = {
    1: (log.info, "text\n"),
    2: (log.why, "# text\n"),
    3: (log.command, "+ text\n"),
    4: (log.output, "  text\n"),
}


@pytest.mark.parametrize("level", _SAID)
def test_each_level_adds_its_own_lines_on_stderr(level: int, capsys: pytest.CaptureFixture[str]) -> None:
    say, shown = _SAID[level]
    log.set_level(level - 1)
    say("text")
    assert capsys.readouterr() == ("", "")
    log.set_level(level)
    say("text")
    assert capsys.readouterr() == ("", shown)


def test_notes_and_warnings_are_always_said_the_latter_once(capsys: pytest.CaptureFixture[str]) -> None:
    log.note("a")
    log.note("a")
    log.warn("b")
    log.warn("b")
    assert capsys.readouterr().err == "a\na\nwarning: b\n"


def test_output_is_indented_and_blank_output_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_level(4)
    log.output("one\ntwo\n")
    log.output(" \n")
    assert capsys.readouterr().err == "  one\n  two\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢\tx\n", "plain é 漢\tx\n"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\rb\0c\x7f", "a\\x0db\\x00c\\x7f"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_control_characters_are_made_visible(text: str, shown: str) -> None:
    assert log.printable(text) == shown


@pytest.mark.parametrize(
    ("terminal", "environment", "coloured"),
    [
        (True, {"TERM": "xterm"}, True),
        (False, {"TERM": "xterm"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_only_on_a_terminal_that_wants_it(
    terminal: bool, environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert log.coloured(sys.stderr) is coloured
