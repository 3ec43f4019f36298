from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.unit.support import FakeProgress, told
from virshle.errors import HostError
from virshle.exec import Command, Result
from virshle.nix import NixHost, NixLog, build, file_words, flake_words, would_build
from virshle.plan import Run, Silent

NIX = NixHost("/bin/nix", (2, 18), "/nix/store", {"NIX_STORE_DIR": "/s"}, ("--option", "x", "y"))
LINK = Path("/image/tiny/result")


def _pairs(step: Run) -> list[tuple[str, str]]:
    return list(zip(step.command.argv, step.command.argv[1:], strict=False))


@pytest.fixture
def flake() -> Run:
    return build(NIX, flake_words(".#image"), LINK, why="build image tiny")


def test_a_flake_is_built_to_its_gc_root(flake: Run) -> None:
    argv = flake.command.argv
    assert argv[:5] == ("/bin/nix", "build", "--option", "x", "y")
    assert argv[-3:] == ("--out-link", str(LINK), ".#image")
    assert flake.command.env == {"NIX_STORE_DIR": "/s"}
    assert flake.why == "build image tiny"


def test_no_cached_evaluation_hides_an_error(flake: Run) -> None:
    assert ("eval-cache", "false") in _pairs(flake)


def test_its_log_is_followed(flake: Run) -> None:
    assert ("--log-format", "internal-json") in _pairs(flake)
    assert flake.follow is not None
    follower = flake.follow(FakeProgress(), flake.why)
    assert isinstance(follower, NixLog)
    assert follower.title == "build image tiny"


def test_a_build_may_take_hours(flake: Run) -> None:
    assert flake.command.timeout >= 3600


def test_a_file_is_called_with_its_arguments_as_strings() -> None:
    step = build(NIX, file_words(Path("/x.nix"), {"a": "1", "b": "x; rm"}), LINK, why="build")
    assert step.command.argv[-8:] == ("--file", "/x.nix", "--argstr", "a", "1", "--argstr", "b", "x; rm")


@pytest.mark.parametrize("offline", [True, False])
def test_offline_no_binary_cache_is_asked(offline: bool) -> None:
    step = build(NIX, file_words(Path("/x.nix"), {}), LINK, why="build", offline=offline)
    assert (("substituters", "") in _pairs(step)) is offline


def _asks(monkeypatch: pytest.MonkeyPatch, code: int, stdout: str, said: str = "") -> list[tuple[str, ...]]:
    called = []

    def follow(command: Command, on_line: Callable[[str], None], **_: object) -> Result:
        called.append(command.argv)
        on_line(said)
        return Result(command, code, stdout, "", 0.1)

    monkeypatch.setattr("virshle.exec.follow", follow)
    return called


@pytest.mark.parametrize(
    "stdout",
    [
        '[{"drvPath":"/nix/store/x.drv","outputs":{"out":"/nix/store/x"}}]',
        '[{"drvPath":"/nix/store/x.drv","outputs":{"img":"/nix/store/x"},"startTime":0}]\n',
    ],
)
def test_what_would_be_built_is_evaluated_and_neither_built_nor_asked_for(
    stdout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = _asks(monkeypatch, 0, stdout)
    assert would_build(NIX, flake_words("x#y"), Silent(), title="look") == "/nix/store/x"
    (argv,) = called
    assert {"--dry-run", "--no-link"} <= set(argv)
    assert ("substituters", "") in pairwise(argv)
    assert argv[-1] == "x#y"


@pytest.mark.parametrize("stdout", ["", "[]", "{}", "[1]", '[{"outputs":{}}]', '[{"outputs":null}]'])
def test_an_answer_that_is_none_is_told_with_what_to_run(stdout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _asks(monkeypatch, 0, stdout)
    with pytest.raises(HostError, match="cannot find out what nix would build") as caught:
        would_build(NIX, flake_words("x#y"), Silent(), title="look")
    assert "nix build" in caught.value.hint


def test_an_evaluation_that_fails_is_told_as_nix_said_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _asks(monkeypatch, 1, "", "error: flake 'x' does not provide attribute 'y'")
    with pytest.raises(HostError) as caught:
        would_build(NIX, flake_words("x#y"), Silent(), title="look")
    assert "does not provide attribute 'y'" in told(caught.value)
    assert "nix flake show" in caught.value.hint
