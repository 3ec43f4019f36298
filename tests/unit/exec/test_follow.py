"""`follow` runs `sh`, which no fake stands in for: what it does with real processes is tested in tests/host."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import sh

from virshle.errors import ConfigError, HostError, TimedOutError
from virshle.exec import Command, follow


class _Process:
    """What `sh` gives for a background command."""

    def __init__(self, code: int = 0, error: BaseException | None = None) -> None:
        self.exit_code = code
        self.error = error
        self.ended: list[str] = []
        self.process = SimpleNamespace(wait=lambda: self.unread())
        self.unread: Callable[[], object] = lambda: None

    def wait(self, timeout: float | None = None) -> None:
        if self.error is not None and not self.ended:
            raise self.error

    def signal_group(self, number: int) -> None:
        self.ended.append(f"signal {int(number)}")

    def kill_group(self) -> None:
        self.ended.append("kill")


def _fake(monkeypatch: pytest.MonkeyPatch, process: _Process) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def command(program: str) -> Any:
        def start(*words: str, **options: Any) -> _Process:
            seen.update(options, program=program, words=words)
            # `sh` reads in a thread of its own, which may come to it after the command has ended.
            process.unread = lambda: (options["_out"]("result\n"), options["_err"]("said\n"))
            return process

        return start

    monkeypatch.setattr(sh, "Command", command)
    return seen


def test_lines_of_stderr_are_told_and_stdout_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _fake(monkeypatch, _Process())
    lines: list[str] = []
    result = follow(Command(("sh", "a", "b")), lines.append, locks=[3])
    assert (result.stdout, lines) == ("result\n", ["said"])
    assert seen["words"] == ("a", "b")
    assert seen["_in"] is None
    assert seen["_pass_fds"] == {3}
    assert seen["_new_session"] is True
    assert "LC_CTYPE" in seen["_env"]


def test_a_failure_is_raised_unless_it_is_not_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(monkeypatch, _Process(code=2))
    assert follow(Command(("sh",)), print, check=False).code == 2
    with pytest.raises(HostError, match="exit code 2"):
        follow(Command(("sh",)), print)


def test_one_that_takes_too_long_is_killed_with_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    process = _Process(error=sh.TimeoutException(-9, "sh"))
    _fake(monkeypatch, process)
    with pytest.raises(TimedOutError, match="did not end within 5 s"):
        follow(Command(("sh",), timeout=5), print)
    assert process.ended == ["kill"]


def test_ctrl_c_interrupts_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    process = _Process(error=KeyboardInterrupt())
    _fake(monkeypatch, process)
    with pytest.raises(KeyboardInterrupt):
        follow(Command(("sh",)), print)
    assert process.ended == ["signal 2"]


def test_a_missing_program_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="frobnicate is not on this machine"):
        follow(Command(("frobnicate",)), print)
