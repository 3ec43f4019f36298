from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.support import FakeProgress
from virshle.nix import NixHost, NixLog, build_expression_file, build_flake
from virshle.plan import Run

NIX = NixHost("/bin/nix", (2, 18), "/nix/store", {"NIX_STORE_DIR": "/s"}, ("--option", "x", "y"))
LINK = Path("/image/tiny/result")


def _pairs(step: Run) -> list[tuple[str, str]]:
    return list(zip(step.command.argv, step.command.argv[1:], strict=False))


@pytest.fixture
def flake() -> Run:
    return build_flake(NIX, ".#image", LINK, why="build image tiny")


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
    step = build_expression_file(NIX, Path("/x.nix"), {"a": "1", "b": "x; rm"}, LINK, why="build")
    assert step.command.argv[-8:] == ("--file", "/x.nix", "--argstr", "a", "1", "--argstr", "b", "x; rm")


@pytest.mark.parametrize("offline", [True, False])
def test_offline_no_binary_cache_is_asked(offline: bool) -> None:
    step = build_expression_file(NIX, Path("/x.nix"), {}, LINK, why="build", offline=offline)
    assert (("substituters", "") in _pairs(step)) is offline
