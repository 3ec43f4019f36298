from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf
from pathlib import Path

import pytest

from tests.unit.support import Condition, FakeProgress
from virshle.errors import HostError, TimedOutError
from virshle.plan import Call, Wait
from virshle.plan.executor import wait


@dataclass
class Clock:
    now: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    return clock


def test_what_is_true_at_once_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it slept"))
    assert wait(Wait("it", Condition(1), timeout=0)) < 5


def test_it_looks_until_it_is_true() -> None:
    condition = Condition(4)
    wait(Wait("it", condition, timeout=60))
    assert condition.looked == 4


def test_it_gives_up_in_time_and_says_on_what() -> None:
    started = time.monotonic()
    with pytest.raises(TimedOutError) as caught:
        wait(Wait("the guest", Condition(inf), timeout=0.05, hint="look there"))
    assert 0.05 <= time.monotonic() - started < 10
    assert caught.value.message == "gave up waiting for the guest after 0.05 s"
    assert caught.value.hint == "look there"


def test_it_gives_up_at_once_when_it_cannot_come_true() -> None:
    with pytest.raises(HostError) as caught:
        wait(Wait("the guest", Condition(inf), timeout=60, fatal=Condition(2), fatal_why="it died", hint="look there"))
    assert caught.value.message == "gave up waiting for the guest: it died"
    assert caught.value.hint == "look there"


@dataclass
class _TrueOnceFatal:
    """Comes true between the look at it and the look at the fatal condition: the guest said READY and ended."""

    fatal: Condition

    def shell(self) -> str:
        return "true"

    def holds(self, patience: float = 2) -> bool:
        return self.fatal.looked > 0


def test_what_came_true_just_before_the_end_counts() -> None:
    fatal = Condition(1)
    wait(Wait("it", _TrueOnceFatal(fatal), timeout=60, fatal=fatal))


@dataclass
class _Slow:
    """A server that speaks after so many seconds, to who still listens."""

    needs: float
    clock: Clock
    asked: int = 0

    def shell(self) -> str:
        return "true"

    def holds(self, patience: float = 2) -> bool:
        self.asked += 1
        self.clock.now += min(patience, self.needs)
        return patience >= self.needs


def test_a_server_that_is_slow_to_speak_is_given_time(clock: Clock) -> None:
    """Thirty that share a processor, asked anew every two seconds, never come to speak."""
    slow = _Slow(15, clock)
    assert wait(Wait("it", slow, timeout=3600)) < 120
    assert slow.asked < 30


def test_it_is_not_waited_longer_than_was_asked_for(clock: Clock) -> None:
    with pytest.raises(TimedOutError):
        wait(Wait("it", _Slow(1000, clock), timeout=100))
    assert clock.now < 105


@dataclass
class _TrueAt:
    """Holds from a moment on; the look at one of its parts takes as long as it may, as where a server does not answer,
    and the other part was looked at before."""

    moment: float
    clock: Clock

    def shell(self) -> str:
        return "true"

    def holds(self, patience: float = 2) -> bool:
        now = self.clock.now
        self.clock.now += patience
        return now >= self.moment


@pytest.mark.parametrize("timeout", [1, 5, 100])
def test_what_came_true_while_the_last_answer_was_waited_for_counts(timeout: float, clock: Clock) -> None:
    wait(Wait("it", _TrueAt(timeout - 0.001, clock), timeout=timeout))


def test_the_tails_of_its_logs_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "vmm.log"
    log.write_bytes(b"".join(b"line %d\n" % n for n in range(30)) + b"\x1b[2J\xff\n")
    with pytest.raises(TimedOutError) as caught:
        wait(Wait("it", Condition(inf), timeout=0, logs=(tmp_path / "missing", log)))
    details = caught.value.details
    assert details[0] == f"last lines of {log}:"
    assert details[1] == "  line 19"
    assert details[-1] == "  \\x1b[2J\ufffd"
    assert len(details) == 13


def test_progress_is_told_while_it_waits_and_ended_in_any_case() -> None:
    progress = FakeProgress()
    wait(Wait("it", Condition(3), timeout=60), progress)
    assert [(total, unit) for _, _, total, unit, _ in progress.told] == [(60, "s")] * 2
    assert {title for title, *_ in progress.told} == {"waiting for it"}
    assert progress.ended == ["waiting for it"]
    with pytest.raises(TimedOutError):
        wait(Wait("it", Condition(inf), timeout=0), progress)
    assert progress.ended == ["waiting for it"] * 2


class Button:
    def __init__(self, error: Exception | None) -> None:
        self.pressed = 0
        self.error = error

    def shell(self) -> str:
        return "press"

    def send(self) -> dict[str, object]:
        self.pressed += 1
        if self.error:
            raise self.error
        return {}


@pytest.mark.parametrize("error", [None, HostError("nobody listens")])
def test_who_was_not_there_yet_is_asked_again(error: Exception | None, clock: Clock) -> None:
    """That it fails is no end: what is waited for may be true by then, and the wait is bounded."""
    button = Button(error)
    step = Wait("the guest", Condition(inf), 30, again=Call("press it", button), every=5)
    with pytest.raises(TimedOutError):
        wait(step)
    assert button.pressed == 5


def test_nobody_is_asked_again_who_did_it(clock: Clock) -> None:
    button = Button(None)
    wait(Wait("the guest", Condition(3), 30, again=Call("press it", button), every=5))
    assert button.pressed == 0
