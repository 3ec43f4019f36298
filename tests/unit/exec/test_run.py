from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pytest_subprocess import FakeProcess

from virshle import log
from virshle.errors import ConfigError, HostError, TimedOutError, VirshleError
from virshle.exec import Command, Result, exec_into, find_program, run, spawn_ok
from virshle.exec.run import PACKAGES, environment, failure, missing


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "LD_PRELOAD", "PYTHONPATH", "MYNIX_X", "LANG"]
)
def test_a_variable_of_the_caller_is_not_passed_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "value")
    assert name not in environment(Command(("x",)))


@pytest.mark.parametrize(
    "name", ["HOME", "USER", "TERM", "NIX_PATH", "HTTPS_PROXY", "http_proxy", "APT_CONFIG", "XDG_DATA_HOME"]
)
def test_what_commands_need_is_passed_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "value")
    assert environment(Command(("x",)))[name] == "value"


def test_a_commands_own_variables_win_and_the_locale_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("HOME", "/root")
    given = environment(Command(("x",), env={"HOME": "/h", "OTHER": "o"}))
    assert (given["LC_CTYPE"], given["HOME"], given["OTHER"]) == ("C.UTF-8", "/h", "o")
    assert given.keys().isdisjoint({"LC_ALL", "LANG"})


def test_path_has_the_sbin_folders_once_behind_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/opt/bin:/usr/sbin")
    assert environment(Command(("x",)))["PATH"] == "/opt/bin:/usr/sbin:/usr/local/sbin:/sbin"


def test_a_program_is_found_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program("no-such-program") is None
    (tmp_path / "no-such-program").write_text("")
    assert find_program("no-such-program") is None
    (tmp_path / "no-such-program").chmod(0o755)
    assert find_program("no-such-program") == str(tmp_path / "no-such-program")


def test_a_command_shows_itself_ready_to_paste() -> None:
    command = Command(("echo", "a b", "$x", "it's"), env={"V": "1 2"})
    assert command.shell() == "V='1 2' echo 'a b' '$x' 'it'\"'\"'s'"


def test_the_result_has_code_and_both_outputs(fp: FakeProcess) -> None:
    fp.register(["x"], stdout="out", stderr="err", returncode=0)
    result = run(Command(("x",)))
    assert (result.code, result.stdout.strip(), result.stderr.strip()) == (0, "out", "err")


def test_a_failure_says_command_code_and_what_it_said(fp: FakeProcess) -> None:
    fp.register(["x", "a b"], stdout="ignored", stderr="first\nlast\x1b[2J", returncode=3)
    with pytest.raises(HostError) as caught:
        run(Command(("x", "a b")))
    assert caught.value.message == "`x` failed with exit code 3"
    assert caught.value.details == ["command: x 'a b'", "  first", "  last\\x1b[2J"]


def test_codes_that_are_allowed_are_no_failure(fp: FakeProcess) -> None:
    fp.register(["x"], returncode=3, occurrences=3)
    assert run(Command(("x",), ok=(0, 3))).code == 3
    assert run(Command(("x",)), check=False).code == 3
    with pytest.raises(HostError):
        run(Command(("x",), ok=(0, 2)))


@pytest.mark.parametrize(
    ("code", "out", "err", "message", "last"),
    [
        (1, "o", "", "`x` failed with exit code 1", "  o"),
        (1, "o", "e", "`x` failed with exit code 1", "  e"),
        (-9, "", "", "`x` was killed by SIGKILL", "command: x"),
        pytest.param(
            -40,
            "",
            "",
            "`x` was killed by signal 40",
            "command: x",
        ),
    ],
)
def test_a_failure_is_put_in_words(code: int, out: str, err: str, message: str, last: str) -> None:
    error = failure(Result(Command(("x",)), code, out, err, 0.1))
    assert (error.message, error.details[-1]) == (message, last)


def test_of_long_output_the_last_lines_are_shown() -> None:
    error = failure(Result(Command(("x",)), 1, "", "\n".join(map(str, range(50))), 0.1))
    assert error.details[1:] == [f"  {line}" for line in range(38, 50)]


@pytest.mark.parametrize("program", ["qemu-system-x86_64", "mcopy", "flock"])
def test_a_missing_program_is_told_with_its_package(program: str, fp: FakeProcess) -> None:
    def absent(_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", program)

    fp.register([program], callback=absent)
    error = missing(program)
    assert error.message == f"{program} is not on this machine"
    assert f"apt-get install {PACKAGES[program]}" in error.hint


def test_a_missing_program_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _popen_raises(monkeypatch, FileNotFoundError(2, "No such file or directory", "frobnicate"))
    with pytest.raises(ConfigError, match="frobnicate is not on this machine") as caught:
        run(Command(("frobnicate",)))
    assert "PATH" in caught.value.hint
    assert not spawn_ok(Command(("frobnicate",)))


def _popen_raises(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def popen(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "Popen", popen)


@pytest.mark.parametrize("number", [13, 7, 12, 11], ids=["EACCES", "E2BIG", "ENOMEM", "EAGAIN"])
def test_a_program_that_cannot_be_started_is_a_host_error(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _popen_raises(monkeypatch, OSError(number, os.strerror(number), "x"))
    with pytest.raises(VirshleError):
        run(Command(("x",)))


def _popen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []

    class Popen:
        returncode = 0
        pid = 2**30

        def __init__(self, argv: object, **options: Any) -> None:
            seen.append(options | {"argv": argv})

        def communicate(self, timeout: float | None = None) -> tuple[str, str]:
            seen[-1]["timeout"] = timeout
            return "", ""

    monkeypatch.setattr(subprocess, "Popen", Popen)
    return seen


def test_a_command_reads_nothing_of_ours_and_has_its_own_session(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _popen(monkeypatch)
    run(Command(("x", "y"), timeout=7))
    options = seen[0]
    assert options["argv"] == ("x", "y")
    assert options["stdin"] == subprocess.DEVNULL
    assert options["start_new_session"] is True
    assert options["timeout"] == 7
    assert not options.get("shell")


@pytest.mark.parametrize(("detached", "handed"), [(False, (3, 4)), (True, ())])
def test_locks_are_handed_to_commands_but_not_to_what_stays(
    detached: bool, handed: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _popen(monkeypatch)
    run(Command(("x",), detached=detached), locks=[3, 4])
    assert seen[0]["pass_fds"] == handed


_groups: list[tuple[int, int]] = []


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    _groups.clear()
    monkeypatch.setattr(os, "killpg", lambda pid, number: _groups.append((pid, number)))
    return _groups


class _Endless:
    """A process that ends only when it is killed."""

    pid = 77

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.waited: list[int] = []
        """How many groups had been killed at each wait."""

    def communicate(self, timeout: float | None = None) -> None:
        raise self.error

    def wait(self) -> None:
        self.waited.append(len(_groups))


def test_a_command_that_takes_too_long_is_killed_with_its_children(
    killed: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: _Endless(subprocess.TimeoutExpired("x", 5)))
    with pytest.raises(TimedOutError, match="`x` did not end within 5 s and was killed") as caught:
        run(Command(("x", "y"), timeout=5))
    assert killed == [(77, signal.SIGKILL)]
    assert caught.value.details == ["command: x y"]
    assert not spawn_ok(Command(("x", "y"), timeout=5))


def test_an_interrupted_command_is_killed_too(killed: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: _Endless(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(Command(("x",)))
    assert killed == [(77, signal.SIGKILL)]


def test_ctrl_c_lets_one_that_leaves_something_behind_finish(
    killed: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = _Endless(KeyboardInterrupt())
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: process)
    with pytest.raises(KeyboardInterrupt):
        run(Command(("x",), detached=True))
    assert process.waited[0] == 0


def test_commands_and_their_output_are_shown_when_asked(fp: FakeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    fp.register(["x", "a b"], stdout="out", occurrences=2)
    log.set_level(3)
    run(Command(("x", "a b")))
    assert capsys.readouterr().err == "+ x 'a b'\n"
    log.set_level(4)
    run(Command(("x", "a b")))
    assert capsys.readouterr().err == "+ x 'a b'\n  out\n"


def test_exec_becomes_the_program_or_says_that_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: list[tuple[str, tuple[str, ...]]] = []
    monkeypatch.setattr(os, "execv", lambda program, argv: called.append((program, argv)))
    (tmp_path / "ssh").write_text("")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    exec_into(("ssh", "-v", "host"))
    assert called == [(str(tmp_path / "ssh"), ("ssh", "-v", "host"))]
    with pytest.raises(ConfigError, match="frobnicate"):
        exec_into(("frobnicate",))
