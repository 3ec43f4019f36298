from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fakehost import FakeHost, FakeScript
from tests.unit.support import make_vm
from tests.unit.vmm.test_driver import LAUNCH
from virshle.exec.process import kill_launched
from virshle.exec.process import launch as detached
from virshle.plan import Run, Step, Wait, Write
from virshle.vmm import account, launch
from virshle.vmm.account import ACCOUNT
from virshle.vmm.driver import Machine, Place, Vmm
from virshle.vmm.launch import launch_steps, process_steps, script
from virshle.vmm.qemu import Qemu
from virshle.vmm.systemd import forget, start_unit

ODD = ["a b", "it's", 'a"b', "$(touch x)", "`touch x`", "a;b", "a\\b", "a%sb", "a&b", "-x", "a*b", "é", "a\tb", "#a"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "s/vm/u", tmp_path / "r/vm/u")
    for folder in (place.folder / "disk", place.folder / "boot", place.logs):
        folder.mkdir(parents=True)
    return place


def _machine(place: Place, **changes: Any) -> Machine:
    return Machine(make_vm(), place, replace(LAUNCH, **changes))


def _steps(machine: Machine) -> list[Step]:
    return launch_steps(Qemu(), machine)


def _position(steps: list[Step], *words: str) -> int:
    """Of the step whose command has these words."""
    (found,) = [
        index for index, step in enumerate(steps) if isinstance(step, Run) and set(words) <= set(step.command.argv)
    ]
    return found


def test_ones_own_vmm_is_noted_written_launched_and_waited_for(place: Place) -> None:
    machine = _machine(place)
    *made, touch, note, write, start, wait = _steps(machine)
    assert made == Qemu().prepare(machine)
    assert isinstance(touch, Run)
    assert touch.command.argv == ("touch", "--", str(place.record))
    assert isinstance(note, Write)
    assert (note.path, note.text) == (place.launch, machine.launch.json())
    assert isinstance(write, Write)
    assert (write.path, write.mode, write.text) == (place.script, 0o755, script(machine, Qemu().vmm(machine)))
    assert isinstance(start, Run)
    assert start.command == detached(place.script)
    assert isinstance(wait, Wait)


def test_its_record_is_never_made_anew(place: Place) -> None:
    """Who runs holds the file that is there."""
    place.record.touch()
    steps = _steps(_machine(place))
    assert not any(isinstance(step, Run) and step.command.argv[0] == "touch" for step in steps)


def test_what_was_begun_is_undone_by_its_token(place: Place) -> None:
    steps = _steps(_machine(place))
    note = next(step for step in steps if isinstance(step, Write) and step.path == place.launch)
    assert [step.shell() for step in note.undo] == [f"rm -f -- {place.launch}"]
    start = steps[_position(steps, "sh")]
    (undo,) = start.undo
    assert isinstance(undo, Run)
    assert undo.command == kill_launched(place.record, "t0k3n")


def test_roots_vmm_is_another_users_from_the_first_start_on(
    place: Place, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "check_way", lambda *_, **__: None)
    machine = _machine(place, user=ACCOUNT)
    place.console_log.touch()
    ways = (place.folder, place.folder / "disk", *place.folder.parents[:2])
    for way in ways:
        way.chmod(0o700)
    steps = _steps(machine)
    useradd, touch = _position(steps, "useradd"), _position(steps, "touch")
    chmod, chown = _position(steps, "chmod"), _position(steps, "chown")
    assert useradd < touch < chown
    assert useradd < chmod
    first_file = next(index for index, step in enumerate(steps) if isinstance(step, Write))
    start = _position(steps, "sh")
    assert max(chmod, chown) < first_file < start
    chowned, passed = steps[chown], steps[chmod]
    assert isinstance(chowned, Run)
    assert isinstance(passed, Run)
    own = {place.run, place.record, place.logs, place.console_log, place.seed, place.folder / "disk/os"}
    assert {str(path) for path in own} <= set(chowned.command.argv)
    # Root's own, which it reads and writes: never the VMM's user's.
    roots = {place.folder, place.launch, place.script, place.folder / "disk", place.folder / "vm.json"}
    assert {str(path) for path in roots}.isdisjoint(chowned.command.argv)
    assert {str(path) for path in (*ways, place.run.parent)} <= set(passed.command.argv)
    launched = steps[start]
    assert isinstance(launched, Run)
    assert f"--reuid={ACCOUNT}" in launched.command.argv
    assert launched.command.argv[-1] == str(place.script)


def test_where_nothing_is_known_all_is_handed_over_but_the_logs_of_runs_before(
    place: Place, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the steps are made later there may be none, of which chown would say so and fail."""
    monkeypatch.setattr(account, "check_way", lambda *_, **__: None)
    host.users.add(ACCOUNT)
    place.console_log.touch()
    place.record.touch()
    steps = process_steps(Qemu(), _machine(place, user=ACCOUNT), blind=True)
    chown = steps[_position(steps, "chown")]
    assert isinstance(chown, Run)
    own = {place.run, place.record, place.logs, place.seed, place.folder / "disk/os", place.folder / "boot/kernel"}
    assert {str(path) for path in own} <= set(chown.command.argv)
    assert str(place.console_log) not in chown.command.argv
    assert _position(steps, "touch") < _position(steps, "chown")


def test_where_systemd_runs_it_is_a_unit_whose_last_failure_is_forgotten(place: Place) -> None:
    machine = _machine(place, unit="virshle-vm-web", user=ACCOUNT)
    steps = [step for step in launch._process(machine) if isinstance(step, Run)]
    assert [step.command for step in steps] == [forget("virshle-vm-web"), start_unit(machine)]
    assert [bool(step.undo) for step in steps] == [False, True]


def _script(place: Place, *argv: str, **more: Any) -> str:
    vmm = Vmm(
        argv=argv or ("/bin/vmm", "-x"),
        output=place.console_log,
        stale=(place.run / "s.sock",),
        power_button="press it",
        **more,
    )
    return script(_machine(place), vmm)


@pytest.mark.parametrize("odd", ODD)
def test_a_script_has_every_word_as_it_is(odd: str, tmp_path: Path) -> None:
    place = Place(tmp_path / odd / "s", tmp_path / odd / "r")
    place.folder.mkdir(parents=True)
    text = _script(place, f"/bin/{odd}", odd, f"--x={odd}")
    place.script.write_text(text)
    read = FakeScript.read(place.script)
    assert read.record == place.record
    assert read.token == "t0k3n"
    assert read.argv == (f"/bin/{odd}", odd, f"--x={odd}")
    assert read.stale == (place.run / "s.sock", place.ready)
    words = shlex.split(next(line for line in text.splitlines() if " </dev/null >>" in line))
    assert words[-3:] == ["</dev/null", f">>{place.console_log}", f"2>>{place.vmm_log}"]


def test_a_script_tells_whose_it_is_and_how_to_use_it(place: Place) -> None:
    head = _script(place).splitlines()[:6]
    assert head[0] == "#!/bin/sh"
    assert "web" in head[1]
    assert str(make_vm().uuid) in head[1]
    assert [line.split()[2] for line in head[2:5]] == ["run", "began", "stop"]


def test_the_lock_is_taken_before_anything_is_touched_and_the_record_is_written_before_it_begins(place: Place) -> None:
    text = _script(place, helpers=("helper one", "helper two"))
    parts = ['exec 9>>"$record"', "flock --timeout 2 9", "rm -f --", "helper one", "helper two"]
    parts += ['echo "$$ $boot $token" >"$record"', "exec /bin/vmm -x"]
    positions = [text.index(part) for part in parts]
    assert positions == sorted(positions)
    assert "( helper one ) 8>&- 9>&- ||" in text  # which must not hold the record when the VMM is gone
    assert "9>&-" not in text[text.index("exec /bin/vmm") :]  # and the VMM must


def test_a_stop_presses_the_button_of_its_driver(place: Place) -> None:
    text = _script(place)
    assert "press() {\n\tpress it\n}\n" in text
    stop = text[text.index("\nstop)") :]
    assert stop.index("flock --shared --nonblock") < stop.index("press &&")
    assert stop.count("\tpress") == 2  # a guest that was still booting felt nothing
