from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from virshle.errors import ConfigError
from virshle.exec import attached


class FakeChild:
    """What `subprocess.Popen` would have given: it ends with `code`, or is interrupted first."""

    def __init__(self, code: int, *, interrupted: bool = False, deaf: bool = False) -> None:
        self.code, self.interrupted, self.deaf = code, interrupted, deaf
        self.done: list[str] = []
        self.argv: tuple[str, ...] = ()
        self.options: dict[str, object] = {}

    def __call__(self, argv: tuple[str, ...], **options: object) -> FakeChild:
        self.argv, self.options = argv, options
        return self

    def wait(self, timeout: float | None = None) -> int:
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt
        if timeout is not None and self.deaf:
            raise subprocess.TimeoutExpired("x", timeout)
        self.done.append("ended")
        return self.code

    def terminate(self) -> None:
        self.done.append("terminated")

    def kill(self) -> None:
        self.done.append("killed")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "program"
    path.write_text("")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return str(path)


def _have(monkeypatch: pytest.MonkeyPatch, child: FakeChild) -> FakeChild:
    monkeypatch.setattr(subprocess, "Popen", child)
    return child


@pytest.mark.parametrize(("code", "ours"), [(0, 0), (7, 7), (255, 255), (-signal.SIGKILL, 137)])
def test_its_code_is_ours_and_so_are_its_pipes(
    code: int, ours: int, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = _have(monkeypatch, FakeChild(code))
    assert attached(("program", "a b")) == ours
    assert (child.argv, child.options) == ((program, "a b"), {})


@pytest.mark.parametrize(
    ("deaf", "done"), [(False, ["terminated", "ended"]), (True, ["terminated", "killed", "ended"])]
)
def test_when_we_are_interrupted_it_ends_first(
    deaf: bool, done: list[str], program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = _have(monkeypatch, FakeChild(0, interrupted=True, deaf=deaf))
    with pytest.raises(KeyboardInterrupt):
        attached(("program",))
    assert child.done == done


def test_a_missing_program_is_told(program: str) -> None:
    with pytest.raises(ConfigError, match="ssh is not on this machine"):
        attached(("ssh", "x"))
