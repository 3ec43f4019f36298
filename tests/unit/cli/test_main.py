from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NoReturn

import click
import pytest

from tests.unit.cli.conftest import V
from virshle import __version__, errors
from virshle.cli.usage import HARMING
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
    ("words", "hint"),
    [
        (["strat"], "did you mean start?"),
        (["sotp"], "did you mean stop?"),
        (["vm", "delet"], "did you mean delete?"),
        (["templates"], "use: v template ls"),
        (["launch"], "use: v create -t TEMPLATE NAME --start --wait"),
        (["vm", "shell"], "use: v ssh VM [CMD]"),
        (["image", "bild"], "did you mean build?"),
        (["template", "rm"], "templates are in the configuration file; v config show names that file"),
        (["xyzzy"], "v --help lists the commands"),
    ],
)
def test_an_unknown_command_is_a_usage_error_with_what_was_meant(words: list[str], hint: str, v: V) -> None:
    ran = v(*words, "x")
    path = " ".join(["v", *words[:-1]])
    assert ran == (2, "", f"error: {path} has no command {words[-1]!r}\nhint: {hint}\n")


@pytest.mark.parametrize("word", ["restore", "recover", "release", "renew", "step", "prune", "detect", "ge", "pull"])
def test_no_verb_that_harms_is_proposed_for_a_word_that_may_mean_another(word: str, v: V) -> None:
    for group in ([], ["vm"], ["image"]):
        hint = v(*group, word).err.splitlines()[-1]
        assert not HARMING & set(hint.replace("?", "").split()), hint


@pytest.mark.parametrize("words", ["node serve", "peer ls", "vm ensure --net", "vm update", "vm ch-info", "vm config"])
def test_a_command_of_the_first_virshle_that_is_not_there_yet_says_so(words: str, v: V) -> None:
    ran = v(*words.split())
    assert (ran.code, ran.out) == (2, "")
    assert "does not have the first virshle's command" in ran.err
    assert ran.err.splitlines()[-1].startswith("hint: ")


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        ("ls --json", "v ls has no option --json", "v ls --format json"),
        ("image ls --yaml", "v image ls has no option --yaml", "v image ls --format yaml"),
        ("info web -o json", "v info has no option -o", "v info --format json"),
        ("create -t tiny --memory 2G", "v create has no option --memory", "the template sets this: "),
        ("ls --peer x", "v ls has no option --peer", "there are no other nodes yet"),
        ("ls --stat x", "v ls has no option --stat", "did you mean --state?"),
        ("ls --xyzzy", "v ls has no option --xyzzy", "v ls --help"),
        ("create", "v create: missing option '-t' / '--template'", "v create --help"),
        (
            "create -t tiny -n 0",
            "v create: invalid value for '-n' / '--count': '0' is not a whole number from 1 to 1000",
            "",
        ),
        ("start web --timeout x", "'x' is not a whole number from 0 to 86400", "v start --help"),
        ("logs", "v logs: missing argument 'VM'", "v logs --help"),
        ("ls -q --format json", "-q prints only names, as plain text", "--format json -c name"),
        ("image ls -q -c size", "-q prints only names, as plain text", ""),
    ],
)
def test_a_wrong_command_line_is_told_as_every_error_is(words: str, error: str, hint: str, v: V) -> None:
    ran = v(*words.split())
    assert (ran.code, ran.out) == (2, "")
    first, second = ran.err.splitlines()
    assert first.startswith("error: ")
    assert error in first
    assert second.startswith("hint: ")
    assert hint in second


def test_a_noun_alone_is_a_question_for_its_help(v: V) -> None:
    ran = v("image")
    assert ran.code == 2
    assert "Usage: v image" in ran.err + ran.out


@pytest.mark.parametrize(
    ("words", "same"), [("image list", "image ls"), ("template list", "template ls"), ("image rm", "image delete")]
)
def test_every_noun_has_the_other_names_of_its_verbs(words: str, same: str, v: V) -> None:
    ran = v(*words.split(), "--help")
    assert ran.code == 0
    assert ran.out.partition("\n")[2] == v(*same.split(), "--help").out.partition("\n")[2]


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
