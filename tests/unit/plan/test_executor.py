from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.support import Condition, FakeRequest
from virshle import log
from virshle.errors import HostError, TimedOutError
from virshle.exec import Command, Result, Started
from virshle.fs import Lock, try_lock
from virshle.plan import Apply, Call, Plan, Progress, Run, Step, Wait, Write, executor, run


class _Steps:
    """Calls that note what is sent, each with an undo that notes too."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def step(self, name: str, error: BaseException | None = None, undo_error: BaseException | None = None) -> Call:
        undo = Call(f"undo {name}", FakeRequest(f"undo {name}", self.sent, undo_error))
        return Call(f"do {name}", FakeRequest(name, self.sent, error), (undo,))

    def apply(self, *steps: Step, after: Callable[[Apply], object] = lambda _: None) -> None:
        with Apply() as apply:
            apply(Plan("web", steps))
            after(apply)


@pytest.fixture
def s() -> _Steps:
    return _Steps()


def test_steps_are_made_in_order_and_kept(s: _Steps) -> None:
    s.apply(s.step("a"), s.step("b"))
    assert s.sent == ["a", "b"]


def test_on_failure_all_is_undone_newest_first_and_the_failing_step_too(s: _Steps) -> None:
    with pytest.raises(HostError) as caught:
        s.apply(s.step("a"), s.step("b"), s.step("c", HostError("c broke")), s.step("d"))
    assert s.sent == ["a", "b", "c", "undo c", "undo b", "undo a"]
    assert caught.value.message == "c broke"
    assert caught.value.details == ["undone: ask undo c", "undone: ask undo b", "undone: ask undo a"]


def test_what_cannot_be_undone_is_said_and_the_rest_is_undone(s: _Steps) -> None:
    with pytest.raises(HostError) as caught:
        s.apply(s.step("a"), s.step("b", undo_error=HostError("busy")), s.step("c", HostError("c broke")))
    assert s.sent == ["a", "b", "c", "undo c", "undo b", "undo a"]
    assert caught.value.details[1] == "could not undo (busy): ask undo b"
    assert caught.value.details[2] == "undone: ask undo a"


def test_all_plans_of_one_context_are_undone(s: _Steps) -> None:
    with pytest.raises(HostError), Apply() as apply:
        apply(Plan("a", [s.step("a")]))
        apply(Plan("b", [s.step("b")]))
        raise HostError("later")
    assert s.sent == ["a", "b", "undo b", "undo a"]


def test_what_is_committed_stays(s: _Steps) -> None:
    with pytest.raises(HostError), Apply() as apply:
        apply(Plan("a", [s.step("a")]))
        apply.commit()
        apply(Plan("b", [s.step("b")]))
        raise HostError("later")
    assert s.sent == ["a", "b", "undo b"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), RuntimeError("ours")])
def test_any_exception_undoes_and_goes_on(error: BaseException, s: _Steps) -> None:
    with pytest.raises(type(error)):
        s.apply(s.step("a"), s.step("b", error))
    assert s.sent == ["a", "b", "undo b", "undo a"]


def test_a_second_ctrl_c_does_not_cut_the_undoing_short(s: _Steps) -> None:
    _undone_in_spite_of(signal.SIGINT, s)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_nor_does_another_signal(number: signal.Signals, s: _Steps) -> None:
    _undone_in_spite_of(number, s)


def _undone_in_spite_of(number: signal.Signals, s: _Steps) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, interrupt)
    try:
        undo = Call("undo b", FakeRequest("undo b", s.sent, then=lambda: os.kill(os.getpid(), number)))
        step = Call("b", FakeRequest("b", s.sent, KeyboardInterrupt()), (undo,))
        with pytest.raises(KeyboardInterrupt):
            s.apply(s.step("a"), step)
        assert s.sent == ["a", "b", "undo b", "undo a"]
        assert signal.getsignal(number) is interrupt
    finally:
        signal.signal(number, before)


def test_it_works_in_a_thread_that_may_set_no_signal_handler(s: _Steps) -> None:
    def work() -> None:
        with pytest.raises(HostError):
            s.apply(s.step("a", HostError("broke")))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert s.sent == ["a", "undo a"]


def test_an_undo_that_breaks_in_an_unforeseen_way_stops_nothing(s: _Steps) -> None:
    with pytest.raises(HostError, match="c broke"):
        s.apply(s.step("a"), s.step("b", undo_error=PermissionError(13, "no")), s.step("c", HostError("c broke")))
    assert s.sent[-1] == "undo a"


def test_a_write_is_a_step_like_any_other(tmp_path: Path) -> None:
    with Apply() as apply:
        apply(Plan("x", [Write("w", tmp_path / "f", "text\n", 0o640)]))
    assert (tmp_path / "f").read_text() == "text\n"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_a_write_that_fails_is_explained(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"cannot write f \(note it\): .*No such file"), Apply() as apply:
        apply(Plan("x", [Write("note it", tmp_path / "gone" / "f", "text\n")]))


def test_a_dry_run_shows_each_step_and_touches_nothing(s: _Steps, tmp_path: Path) -> None:
    shown: list[str] = []
    executor.observers.append(lambda *_: pytest.fail("a step was made"))
    steps: list[Step] = [s.step("a"), Write("write it", tmp_path / "f", "t\n"), run("delete all", "rm", "-rf", "/")]
    with Apply(dry_run=shown.append) as apply:
        apply(Plan("web", steps, journal=tmp_path / "journal"))
    assert shown == [f"# web: {step.why}\n{step.shell()}" for step in steps]
    assert s.sent == []
    assert not (tmp_path / "f").exists()
    assert not (tmp_path / "journal").exists()


def test_observers_are_told_before_after_and_at_undo(s: _Steps) -> None:
    seen: list[tuple[str, str]] = []
    executor.observers.append(lambda moment, step: seen.append((moment, f"{step.why} ({len(s.sent)} sent)")))
    with pytest.raises(HostError):
        s.apply(s.step("a"), s.step("b", HostError("broke")))
    assert seen == [
        ("before", "do a (0 sent)"),
        ("after", "do a (1 sent)"),
        ("before", "do b (1 sent)"),
        ("undo", "undo b (2 sent)"),
        ("undo", "undo a (3 sent)"),
    ]


def test_locks_are_handed_to_commands_and_kept_until_the_end(tmp_path: Path, host: FakeHost) -> None:
    host.answers |= {"work": "", "stay": "", "back": ""}
    lock = Lock(tmp_path)
    with pytest.raises(HostError), Apply() as apply:
        apply.hold(lock)
        step = run("work", "work", undo=[run("back", "back")])
        apply(Plan("x", [step, Run("launch", Command(("stay",), detached=True))]))
        assert try_lock(tmp_path) is None
        raise HostError("broke")
    handed = dict(zip((argv[0] for argv in host.calls), host.locks, strict=True))
    assert len(handed["work"]) == 1
    assert handed["work"] == handed["back"]
    assert try_lock(tmp_path) is not None


def test_a_lock_that_was_released_is_not_handed_on(tmp_path: Path, host: FakeHost) -> None:
    host.answers["work"] = ""
    lock = Lock(tmp_path)
    with Apply() as apply:
        apply.hold(lock)
        lock.release()
        apply(Plan("x", [run("work", "work")]))
    assert host.locks == [()]


class _Follower:
    def __init__(self, progress: Progress, why: str) -> None:
        assert why == "build"

    def line(self, text: str) -> None: ...

    def hint(self) -> str:
        return "look at it"

    def failure(self) -> list[str]:
        return ["what it said"]


@pytest.mark.parametrize(("code", "fails"), [(0, False), (7, False), (1, True)])
def test_a_followed_command_fails_with_what_its_follower_kept(
    code: int, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(command: Command, on_line: object, *, locks: list[int], check: bool) -> Result:
        return Result(command, code, "", "", 0.1)

    monkeypatch.setattr("virshle.exec.follow", follow)
    step = Run("build", Command(("nix", "build"), ok=(0, 7)), follow=_Follower)
    if not fails:
        with Apply() as apply:
            apply(Plan("x", [step]))
        return
    with pytest.raises(HostError, match="`nix` failed with exit code 1") as caught, Apply() as apply:
        apply(Plan("x", [step]))
    assert caught.value.details == ["command: nix build", "what it said"]


@pytest.mark.parametrize("before", ["", "of an earlier run\n" * 20, "x" * 2**17])
@pytest.mark.parametrize("cut", [True, False])
def test_a_command_that_fails_shows_the_end_of_its_logs_and_nothing_of_an_earlier_run(
    before: str, cut: bool, tmp_path: Path, host: FakeHost
) -> None:
    log = tmp_path / "vmm.log"
    log.write_text(before)

    def say(_: tuple[str, ...]) -> None:
        log.write_text(("" if cut else before) + "I am broken\n")

    host.before = say
    with pytest.raises(HostError) as caught, Apply() as apply:
        apply(Plan("x", [Run("start it", Command(("cp", "/absent", "/there")), logs=(log,))]))
    assert caught.value.details[-2:] == [f"last lines of {log}:", "  I am broken"]


def test_what_waits_for_that_command_shows_as_little(tmp_path: Path, host: FakeHost) -> None:
    log = tmp_path / "vmm.log"
    log.write_text("of an earlier run\n")
    start = Run("start it", Command(("touch", str(tmp_path / "x"))), logs=(log,))

    def say(_: tuple[str, ...]) -> None:
        log.write_text("of an earlier run\nof this run\n")

    host.before = say
    with pytest.raises(TimedOutError) as caught, Apply() as apply:
        apply(Plan("x", [start, Wait("it", Condition(inf), timeout=0, logs=(log,))]))
    assert caught.value.details == [f"last lines of {log}:", "  of this run"]


def test_a_lock_of_one_subject_is_handed_only_to_its_commands(tmp_path: Path, host: FakeHost) -> None:
    """A thousand VMs are not a thousand descriptors for each command."""
    host.answers["work"] = ""
    locks = {}
    for name in ("web", "db", "all"):
        (tmp_path / name).mkdir()
        locks[name] = Lock(tmp_path / name)
    with Apply() as apply:
        apply.hold(locks["web"], "web")
        apply.hold(locks["db"], "db")
        apply.hold(locks["all"])
        fds = {name: lock.fd for name, lock in locks.items()}
        for subject in ("web", "db", "other"):
            apply(Plan(subject, [run("work", "work")]))
    assert [set(handed) for handed in host.locks] == [
        {fds["web"], fds["all"]},
        {fds["db"], fds["all"]},
        {fds["all"]},
    ]
    assert all(lock.fd == -1 for lock in locks.values())


@pytest.mark.parametrize(("level", "said"), [(0, ""), (1, "web: make it, mark it\n")])
def test_what_is_being_done_is_told_phase_by_phase(
    level: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.set_level(level)
    steps = [Write("make it", tmp_path / "a", ""), Write("mark it", tmp_path / "b", "")]
    with Apply() as apply:
        apply(Plan("web", steps))
        apply(Plan("nothing to do", []))
    assert capsys.readouterr().err == said


def test_of_several_plans_the_first_step_of_each_is_made_then_the_second(s: _Steps) -> None:
    with Apply() as apply:
        apply(Plan("a", [s.step("a1"), s.step("a2"), s.step("a3")]), Plan("b", []), Plan("c", [s.step("c1")]))
    assert s.sent == ["a1", "c1", "a2", "a3"]


def test_a_dry_run_shows_several_plans_in_the_order_in_which_they_would_be_made(s: _Steps) -> None:
    shown: list[str] = []
    with Apply(dry_run=shown.append) as apply:
        apply(Plan("a", [s.step("1"), s.step("2")]), Plan("b", [s.step("1"), s.step("2")]))
    assert [text.splitlines()[0] for text in shown] == ["# a: do 1", "# b: do 1", "# a: do 2", "# b: do 2"]


class _Commands:
    """Commands that are in the fake host's log when they start, and in `over` when their end was waited for."""

    def __init__(self, host: FakeHost, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        host.answers["work"] = ""
        self.host, self.over, self.killed = host, list[str](), list[str]()
        end, kill = Started.end, Started.kill

        def ended(started: Started, *, check: bool = True) -> Result:
            self.over.append(started.command.argv[1])
            return end(started, check=check)

        def killed(started: Started) -> None:
            self.killed.append(started.command.argv[1])
            kill(started)

        monkeypatch.setattr(Started, "end", ended)
        monkeypatch.setattr(Started, "kill", killed)
        self.plans = [
            Plan(f"vm{index}", [self.step(f"{row}{index}") for row in ("a", "b")]) for index in range(1, count + 1)
        ]

    def step(self, name: str) -> Run:
        return run(f"work {name}", "work", name, undo=[run(f"undo {name}", "work", f"undo {name}")])

    @property
    def begun(self) -> list[str]:
        return [argv[1] for argv in self.host.calls]


def test_short_commands_of_several_plans_run_side_by_side_and_a_row_ends_before_the_next(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = executor.SIDE_BY_SIDE + 2
    commands = _Commands(host, monkeypatch, count)
    most: list[int] = []
    host.before = lambda _: most.append(len(commands.begun) - len(commands.over))
    with Apply() as apply:
        apply(*commands.plans)
    row = [str(index) for index in range(1, count + 1)]
    assert commands.begun == commands.over == [f"a{n}" for n in row] + [f"b{n}" for n in row]
    assert max(most) == executor.SIDE_BY_SIDE
    # The first of the second row: none of the first runs any more.
    assert most[count] == 1


def test_when_one_fails_those_beside_it_are_killed_and_all_of_them_are_undone(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = _Commands(host, monkeypatch, 4)

    def fail(argv: tuple[str, ...]) -> None:
        if argv[1] == "b2":
            del host.answers["work"]
        else:
            host.answers["work"] = ""

    host.before = fail
    host._work = lambda _: (_ for _ in ()).throw(OSError(5, "broken"))  # type: ignore[attr-defined]
    with pytest.raises(HostError, match="`work` failed") as caught, Apply() as apply:
        apply(*commands.plans)
    assert commands.killed == ["b3", "b4"]
    undone = [f"undo {row}{index}" for row in ("b", "a") for index in (4, 3, 2, 1)]
    assert commands.begun[8:] == undone
    assert [line.rpartition("'undo ")[2].strip("'") for line in caught.value.details[-8:]] == [
        word.removeprefix("undo ") for word in undone
    ]


def test_an_interrupt_kills_all_that_run_side_by_side(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = _Commands(host, monkeypatch, 3)

    def interrupt(moment: str, step: Step) -> None:
        if (moment, step.why) == ("before", "work a3"):
            raise KeyboardInterrupt

    executor.observers.append(interrupt)
    with pytest.raises(KeyboardInterrupt), Apply() as apply:
        apply(*commands.plans)
    assert commands.killed == ["a1", "a2"]
    assert commands.begun == ["a1", "a2", "undo a2", "undo a1"]
