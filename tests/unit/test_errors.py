from __future__ import annotations

import pytest

from virshle import errors
from virshle.errors import VirshleError, near, not_found

_CODES = {
    "UsageError": 2,
    "ConfigError": 3,
    "NotFoundError": 4,
    "ConflictError": 5,
    "HostError": 6,
    "TimedOutError": 8,
}


def test_every_error_has_its_own_exit_code() -> None:
    found = {
        kind.__name__: kind.exit_code for kind in VirshleError.__subclasses__() if kind.__module__ == errors.__name__
    }
    assert found == _CODES
    assert VirshleError.exit_code == 1


def test_an_error_keeps_message_hint_and_details() -> None:
    error = VirshleError("it broke", hint="mend it", details=iter(["a", "b"]))
    assert (str(error), error.message, error.hint, error.details) == ("it broke", "it broke", "mend it", ["a", "b"])


@pytest.mark.parametrize(
    ("word", "close"),
    [("wbe", ["web"]), ("WEB", ["web"]), ("database", ["Data-base"]), ("zzz", []), ("", []), ("lmai", ["mail"])],
)
def test_near_matches_ignore_case_and_small_slips(word: str, close: list[str]) -> None:
    assert near(word, ["web", "Data-base", "mail"]) == close


@pytest.mark.parametrize(("word", "far"), [("xxs", "nixos"), ("update", "delete"), ("kea", "fake"), ("show", "stop")])
def test_what_shares_but_half_of_its_letters_is_not_near(word: str, far: str) -> None:
    assert near(word, [far]) == []


def test_near_matches_are_at_most_three_best_first() -> None:
    assert near("node1", ["node1x", "node2", "node3", "node4", "node11"])[0] in ("node1x", "node11")
    assert len(near("node1", ["node1x", "node2", "node3", "node4", "node11"])) == 3


def test_not_found_proposes_the_near_match() -> None:
    error = not_found("VM", "wbe", ["web", "mail"])
    assert error.message == "no VM named 'wbe'"
    assert error.hint == "did you mean web?"


def test_not_found_lists_all_when_none_is_near_and_they_are_few() -> None:
    assert not_found("VM", "zzz", ["web", "mail"], hint="`v ls`").hint == "there are: mail, web; `v ls`"
    many = [f"vm-{index:02}" for index in range(13)]
    assert not_found("VM", "zzz", many, hint="`v ls`").hint == "`v ls`"
    assert not_found("VM", "zzz", [], hint="`v ls`").hint == "`v ls`"
