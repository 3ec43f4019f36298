"""Which words of `v ssh` are ssh's, which are ours and which are the guest's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.cli.conftest import V
from tests.unit.support import make_vm, put_vm
from virshle import log
from virshle.store import Layout


@pytest.fixture
def entered(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], list[str], str | None]]:
    """The guest's words, the options for ssh, and the login of each time."""
    put_vm(layout, make_vm())
    found: list[tuple[list[str], list[str], str | None]] = []

    def enter(_: object, __: object, words: Any, *, login: str | None, options: Any) -> None:
        found.append((list(words), list(options), login))

    monkeypatch.setattr("virshle.service.ssh.enter", enter)
    return found


@pytest.mark.parametrize(
    ("words", "guests", "sshs", "login"),
    [
        (["web"], [], [], None),
        (["web", "uname", "-a"], ["uname", "-a"], [], None),
        (["web", "ls", "-l", "--", "-t"], ["ls", "-l", "--", "-t"], [], None),
        (["web", "--", "uname", "-a"], ["uname", "-a"], [], None),
        (["web", "--", "--", "x"], ["--", "x"], [], None),
        (["web", "--", "-v"], ["-v"], [], None),
        (["web", "-"], ["-"], [], None),
        (["--", "web", "ls"], ["ls"], [], None),
        (["-t", "web", "top"], ["top"], ["-t"], None),
        (["-tt", "web", "top"], ["top"], ["-tt"], None),
        (["-tAl", "ada", "web"], [], ["-t", "-A"], "ada"),
        (["ada@web", "id"], ["id"], [], "ada"),
        (["-L", "1:h:2", "-L3:h:4", "web"], [], ["-L", "1:h:2", "-L", "3:h:4"], None),
        (["-NT", "-D", "1080", "web"], [], ["-N", "-T", "-D", "1080"], None),
        (["-i", "key", "-o", "SendEnv=LANG", "web", "env"], ["env"], ["-i", "key", "-o", "SendEnv=LANG"], None),
        (["-W", "localhost:80", "web"], [], ["-W", "localhost:80"], None),
    ],
)
def test_whose_words_they_are(
    words: list[str],
    guests: list[str],
    sshs: list[str],
    login: str | None,
    entered: list[tuple[list[str], list[str], str | None]],
    v: V,
) -> None:
    assert v("ssh", *words) == (0, "", "")
    assert entered == [(guests, sshs, login)]


@pytest.mark.parametrize("words", [["-vv", "web", "ls"], ["web", "-vv", "ls"], ["web", "-v", "-vv", "--", "ls"]])
def test_v_is_ours_on_both_sides_of_the_name(words: list[str], entered: list[Any], v: V) -> None:
    assert v("ssh", *words).code == 0
    assert log.level() == 2
    assert entered == [(["ls"], [], None)]


def test_help_is_ours_too(entered: list[Any], v: V) -> None:
    for words in (["-h"], ["web", "-h"], ["web", "--help"]):
        ran = v("ssh", *words)
        assert (ran.code, "Usage: v ssh" in ran.out) == (0, True)
    assert entered == []


@pytest.mark.parametrize("option", ["-t", "-L", "-l", "-A", "-lroot", "-p", "--login"])
def test_what_comes_too_late_is_refused_with_a_word(option: str, entered: list[Any], v: V) -> None:
    ran = v("ssh", "web", option, "x")
    assert (ran.code, ran.out) == (2, "")
    assert f"error: {option} comes after the VM's name" in ran.err
    assert f"v ssh {option} web" in ran.err
    assert f"v ssh web -- {option}" in ran.err
    assert entered == []


@pytest.mark.parametrize("option", ["-F", "-J", "-p", "-S", "-O", "-M"])
def test_the_way_to_a_vm_is_not_the_callers_to_choose(option: str, entered: list[Any], v: V) -> None:
    ran = v("ssh", option, "x", "web")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"error: v ssh has no option {option}\nhint: v ssh --help\n"
    assert entered == []
