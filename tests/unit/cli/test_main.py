from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NoReturn

import click
import pytest

from tests.unit.cli.conftest import V
from virshle import __version__, errors
from virshle.errors import VirshleError
from virshle.service.node import Node


def test_the_version_is_told(v: V) -> None:
    assert v("--version") == (0, f"v {__version__}\n", "")


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["vm", "--help"], ["start", "-h"], ["template", "--help"]])
def test_help_is_told_on_stdout(words: list[str], v: V) -> None:
    ran = v(*words)
    assert ran.code == 0
    assert "Usage: v" in ran.out


@pytest.mark.parametrize("verb", ["create", "start", "stop", "delete", "ls", "info", "logs", "ssh", "doctor"])
def test_every_verb_has_help_with_an_example(verb: str, v: V) -> None:
    ran = v(verb, "--help")
    assert ran.code == 0
    assert f"v {verb}" in ran.out.partition("Example")[2]


@pytest.mark.parametrize(
    ("words", "near"),
    [(["strat"], "start"), (["vm", "delet"], "delete"), (["templates"], "template"), (["image", "bild"], None)],
)
def test_an_unknown_command_is_a_usage_error_with_the_near_match(words: list[str], near: str | None, v: V) -> None:
    ran = v(*words)
    assert ran.code == 2
    assert ran.out == ""
    assert "No such command" in ran.err
    if near:
        assert f"Did you mean {near}" in ran.err


@pytest.mark.parametrize(
    ("alias", "verb"), [("on", "start"), ("off", "stop"), ("rm", "delete"), ("remove", "delete"), ("list", "ls")]
)
def test_verbs_of_the_first_virshle_work(alias: str, verb: str, v: V) -> None:
    assert v(alias, "--help").out.partition("\n")[2] == v(verb, "--help").out.partition("\n")[2]


@pytest.mark.parametrize("words", [["ls", "--nope"], ["create"], ["create", "-t", "tiny", "-n", "0"], ["logs"]])
def test_a_wrong_option_is_a_usage_error(words: list[str], v: V) -> None:
    ran = v(*words)
    assert (ran.code, ran.out) == (2, "")


def _raise(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def here(**_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(Node, "here", here)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("VirshleError", 1),
        ("UsageError", 2),
        ("ConfigError", 3),
        ("NotFoundError", 4),
        ("ConflictError", 5),
        ("HostError", 6),
        ("TimedOutError", 8),
    ],
)
def test_every_error_ends_with_its_code_and_tells_all_on_stderr(
    kind: str, code: int, v: V, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raise(monkeypatch, getattr(errors, kind)("it broke", hint="mend it", details=["line one", "line two"]))
    assert v("ls") == (code, "", "error: it broke\n  line one\n  line two\nhint: mend it\n")


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (click.Abort(), 130)])
def test_an_interrupt_is_told_without_a_traceback(
    error: BaseException, code: int, v: V, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raise(monkeypatch, error)
    ran = v("ls")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.strip().startswith("interrupted")
    assert len(ran.err.strip().splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_as_ctrl_c_does(number: int, v: V, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Node, "here", lambda **_: os.kill(os.getpid(), number))
    assert v("ls").code == 130


def test_what_is_made_is_its_owners_alone(v: V, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def here(**_: object) -> NoReturn:
        seen.append(os.umask(0o077))
        raise VirshleError("enough")

    monkeypatch.setattr(Node, "here", here)
    v("ls")
    assert seen == [0o077]


def test_a_broken_configuration_is_told_whole(v: V) -> None:
    Path(os.environ["VIRSHLE_CONFIG"]).write_text("tempalte = 1\nnoed = 2\n")
    ran = v("template", "ls")
    assert ran.code == 3
    assert "tempalte: unknown key; did you mean template?" in ran.err
    assert "noed: unknown key; did you mean node?" in ran.err


@pytest.mark.parametrize("field", ["message", "details", "hint"])
def test_no_error_drives_the_terminal(field: str, v: V, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = "\x1b]0;x\x07\x1b[8mhidden"
    error = (
        VirshleError(odd)
        if field == "message"
        else VirshleError("x", hint=odd if field == "hint" else "", details=[odd])
    )
    _raise(monkeypatch, error)
    assert "\x07" not in v("ls").err
