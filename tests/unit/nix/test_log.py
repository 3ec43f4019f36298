from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.support import FakeProgress
from virshle.nix import NixLog

DRV = "/nix/store/4zq0iwjdj8vg8z6xs2vd0jp7mqn9ri7a-tiny.drv"


def _line(action: str, **fields: Any) -> str:
    return "@nix " + json.dumps({"action": action, **fields})


def _start(number: int, kind: int, text: str = "", *fields: Any) -> str:
    return _line("start", id=number, level=3, type=kind, text=text, fields=list(fields))


def _result(number: int, kind: int, *fields: Any) -> str:
    return _line("result", id=number, type=kind, fields=list(fields))


def _message(level: int, text: str, **more: Any) -> str:
    return _line("msg", level=level, msg=text, **more)


@pytest.fixture
def progress() -> FakeProgress:
    return FakeProgress()


@pytest.fixture
def log(progress: FakeProgress) -> NixLog:
    return NixLog(progress, "build tiny")


def _feed(log: NixLog, *lines: str) -> None:
    for line in lines:
        log.line(line)


def test_builds_are_counted(log: NixLog, progress: FakeProgress) -> None:
    _feed(log, _start(1, 104), _result(1, 105, 0, 1, 0, 0), _result(1, 105, 0, 2, 1, 0), _result(1, 105, 1, 2, 0, 0))
    assert [(done, total) for _, done, total, _, _ in progress.told] == [(0, 0), (0, 1), (0, 2), (1, 2)]
    assert {title for title, *_ in progress.told} == {"build tiny"}


def test_what_is_built_now_is_told_with_phase_and_last_line(log: NixLog, progress: FakeProgress) -> None:
    _feed(log, _start(1, 104), _start(2, 105, f"building '{DRV}'", DRV, "", 1, 1))
    assert progress.told[-1][4] == "tiny"
    _feed(log, _result(2, 104, "buildPhase"), _result(2, 101, "\x1b[1mcc main.c\x1b[0m"))
    assert progress.told[-1][4] == "tiny buildPhase cc main.c"
    _feed(log, _line("stop", id=2))
    assert "tiny" not in progress.told[-1][4]


def test_downloads_are_counted_in_bytes_over_all_files(log: NixLog, progress: FakeProgress) -> None:
    _feed(
        log,
        _start(1, 102),
        _result(1, 106, 101, 1000),
        _start(2, 101, "downloading 'a.nar.xz'", "https://cache/a.nar.xz"),
        _result(2, 105, 300, 600, 0, 0),
    )
    assert progress.told[-1] == ("build tiny", 300, 1000, "B", "downloading 'a.nar.xz'")
    _feed(log, _result(2, 105, 600, 600, 0, 0), _line("stop", id=2), _start(3, 101, "downloading 'b'", "u"))
    _feed(log, _result(3, 105, 100, 400, 0, 0))
    assert progress.told[-1] == ("build tiny", 700, 1000, "B", "downloading 'b'")


def test_a_total_that_was_never_told_follows_from_the_files(log: NixLog, progress: FakeProgress) -> None:
    _feed(log, _start(2, 101, "downloading", "u"), _result(2, 105, 1, 50, 0, 0))
    assert progress.told[-1][1:4] == (1, 50, "B")


def test_builds_are_told_before_downloads(log: NixLog, progress: FakeProgress) -> None:
    _feed(log, _start(1, 101, "downloading", "u"), _start(2, 105, "building", DRV, "", 1, 1))
    assert progress.told[-1][3:] == ("", "tiny")


def test_errors_are_kept_without_colour_and_blank_lines(log: NixLog) -> None:
    _feed(log, _message(0, "ignored", raw_msg="\x1b[31;1merror:\x1b[0m no attribute\n\n  did you mean x?"))
    assert log.failure() == ["  error: no attribute", "    did you mean x?"]


@pytest.mark.parametrize("level", [1, 2, 3, 7])
def test_only_errors_are_kept(level: int, log: NixLog) -> None:
    _feed(log, _message(level, "warning: nothing"))
    assert log.failure() == []


def test_other_lines_of_stderr_are_kept_too(log: NixLog) -> None:
    _feed(log, "ssh: connect to host x: refused", "", "   ", "\x1b[1mwarning\x1b[0m: dirty")
    assert log.failure() == ["  ssh: connect to host x: refused", "  warning: dirty"]


def test_a_failed_build_shows_the_builders_last_lines(log: NixLog) -> None:
    _feed(log, _start(2, 105, "building", DRV), *(_result(2, 101, f"line {n}\x1b[2J") for n in range(40)))
    _feed(log, _message(0, "error: builder failed"))
    lines = log.failure()
    assert lines[0] == "the builder's last lines:"
    assert lines[1] == "  > line 15"
    assert lines[-2:] == ["  > line 39", "  error: builder failed"]


def test_they_are_not_shown_twice_where_nix_itself_shows_them(log: NixLog) -> None:
    _feed(log, _start(2, 105, "building", DRV), _result(2, 101, "line"))
    _feed(log, _message(0, "error: builder failed;\nlast 1 log lines:\n> line"))
    assert "the builder's last lines:" not in log.failure()


def test_control_characters_of_a_builder_are_made_visible(log: NixLog) -> None:
    _feed(log, _message(0, "error: \x1b]0;title\x07"))
    assert log.failure() == ["  error: \\x1b]0;title\\x07"]


_BROKEN = [
    "@nix ",
    "@nix {",
    "@nix []",
    "@nix 5",
    "@nix null",
    '@nix "action"',
    "@nix {}",
    '@nix {"action":"start"}',
    '@nix {"action":"start","id":[1],"type":105}',
    '@nix {"action":"start","id":1,"type":105,"fields":{"a":1}}',
    '@nix {"action":"start","id":1,"type":"x","text":null}',
    '@nix {"action":"stop"}',
    '@nix {"action":"stop","id":99}',
    '@nix {"action":"result","id":99,"type":105,"fields":[1]}',
    '@nix {"action":"result","id":2,"type":105,"fields":[]}',
    '@nix {"action":"result","id":2,"type":105,"fields":["x","y"]}',
    '@nix {"action":"result","id":2,"type":105,"fields":null}',
    '@nix {"action":"result","id":2,"type":106,"fields":[101]}',
    '@nix {"action":"result","id":2,"type":104,"fields":[]}',
    '@nix {"action":"msg","level":0}',
    '@nix {"action":"msg","level":"x","msg":"y"}',
    '@nix {"action":"msg","level":0,"msg":5}',
    '@nix {"action":"novel","id":1}',
    '@nix {"action":"msg","level":0,"msg":"torn',
]
_RAISES = [
    '@nix {"action":"result","id":2,"type":105,"fields":[1e999,1]}',
    "@nix " + "[" * 100_000,
]


@pytest.mark.parametrize("line", [*_BROKEN, *_RAISES])
def test_a_broken_line_raises_nothing_and_the_next_is_read(line: str, log: NixLog, progress: FakeProgress) -> None:
    _feed(log, _start(2, 105, "building", DRV), line, _start(1, 104), _result(1, 105, 1, 2, 0, 0))
    assert progress.told[-1][1:3] == (1, 2)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"action": st.sampled_from(["start", "stop", "result", "msg", "x"])},
            optional={
                "id": st.integers(0, 2) | _JSON,
                "type": st.sampled_from([101, 102, 104, 105, 106]) | _JSON,
                "fields": st.lists(_JSON, max_size=4) | _JSON,
                "level": st.integers(0, 2) | _JSON,
                "msg": _JSON,
                "text": st.text() | _JSON,
            },
        ),
        max_size=8,
    )
)
def test_no_message_raises_anything(messages: list[dict[str, Any]]) -> None:
    log = NixLog(FakeProgress(), "t")
    for message in messages:
        log.line("@nix " + json.dumps(message))
    log.failure()


def test_of_a_long_error_the_first_lines_and_the_last_are_shown() -> None:
    log = NixLog(FakeProgress(), "build")
    text = "\\n".join(f"line {number}" for number in range(40))
    log.line(f'@nix {{"action":"msg","level":0,"raw_msg":"{text}","msg":""}}')
    lines = log.failure()
    assert lines[0] == "  line 0"
    assert "  ..." in lines
    assert lines[-1] == "  line 39"
    assert len(lines) == 19


def test_of_a_line_without_end_the_beginning_is_kept(log: NixLog, progress: FakeProgress) -> None:
    long = "x" * 3_000_000
    _feed(log, _start(1, 104), _start(2, 105, f"building '{DRV}'", DRV, "", 1, 1), _result(2, 101, long))
    assert len(progress.told[-1][4]) < 2000
    _feed(log, _message(0, f"error: {long}\nwhole"), long)
    said = log.failure()
    assert max(map(len, said)) < 2000
    assert "x... (3000000 characters)" in "\n".join(said)
    assert any(line.strip() == "whole" for line in said)
