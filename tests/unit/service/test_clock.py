"""A paused VM goes on, by `start` as by `resume`, and its guest's clock is set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import Guest
from virshle.errors import ConflictError, TimedOutError
from virshle.service.lifecycle import resume
from virshle.service.node import Entry, Node
from virshle.service.start import start


def test_one_that_is_paused_goes_on_and_its_clock_is_set(web: Entry, node: Node, host: FakeHost, guest: Guest) -> None:
    start(node, web)
    guest.status = "paused"
    host.calls.clear()
    again = start(node, web)
    assert (again.already, again.resumed) == (True, True)
    assert guest.asked.count("cont") == 1
    (ssh,) = host.calls
    assert ssh[0] == "ssh"
    assert "date -s @" in ssh[-1]
    assert start(node, web).resumed is False


def test_one_that_something_else_holds_is_not_let_go(web: Entry, node: Node, guest: Guest) -> None:
    start(node, web)
    guest.status = "debug"
    with pytest.raises(ConflictError, match="web is paused: a debugger stopped it") as caught:
        start(node, web)
    assert caught.value.hint == "to resume it: v resume web"
    assert "cont" not in guest.asked


@pytest.mark.parametrize("act", [start, resume], ids=["start", "resume"])
def test_a_clock_that_cannot_be_set_fails_no_resume(
    act: object, web: Entry, node: Node, host: FakeHost, guest: Guest, capsys: pytest.CaptureFixture[str]
) -> None:
    start(node, web)

    def refuse(argv: tuple[str, ...]) -> None:
        if argv[0] == "ssh":
            raise TimedOutError("ssh did not end within 8 s")

    host.before = refuse
    guest.status = "paused"
    act(node, web)  # type: ignore[operator]
    assert "the clock of web could not be set: it may be behind by the length of the pause" in capsys.readouterr().err
    assert guest.status == "running"


def test_a_dry_resume_says_that_the_clock_would_be_set(web: Entry, node: Node, host: FakeHost, guest: Guest) -> None:
    start(node, web)
    guest.status = "paused"
    host.calls.clear()
    shown: list[str] = []
    resume(replace(node, dry_run=shown.append), web)
    assert "set the clock of web" in shown[-1]
    assert (host.calls, guest.status) == ([], "paused")
