from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import Guest
from tests.unit.support import Held, make_vm, put_broken, put_vm, record_of, snapshot, told, uuid_of
from virshle.errors import ConfigError, ConflictError, HostError, NotFoundError, TimedOutError, VirshleError
from virshle.fs import Lock
from virshle.model.version import UPGRADES, VERSION
from virshle.service.create import Order, create
from virshle.service.lifecycle import delete, stop
from virshle.service.node import Entry, Node
from virshle.service.start import start
from virshle.store import Layout
from virshle.store.layout import command_log, definition
from virshle.vmm.driver import Machine, read_launch
from virshle.vmm.qemu import Qemu

pytestmark = pytest.mark.usefixtures("guest")

BAD = uuid_of("bad")


def test_a_start_runs_the_vm_and_tells_how(web: Entry, node: Node, host: FakeHost) -> None:
    started = start(node, web)
    assert started.launch is not None
    assert (started.already, started.launch.version) == (False, "7.2.22")
    assert node.process(web.uuid) is not None
    assert host.ran("mkfs.vfat")
    (script,) = host.started
    assert script.argv == Qemu().vmm(Machine(web.whole(), node.place(web.uuid), started.launch)).argv


def test_the_vmm_holds_no_lock_of_ours(web: Entry, node: Node, host: FakeHost) -> None:
    start(node, web)
    handed = {argv[0]: locks for argv, locks in zip(host.calls, host.locks[-len(host.calls) :], strict=True)}
    assert handed["sh"] == ()
    assert len(host.launches) == 1
    assert len(handed["mcopy"]) == 1


def test_a_start_brings_an_old_definition_up_to_date(web: Entry, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UPGRADES, 0, lambda data: {("memory" if key == "ram" else key): data[key] for key in data})
    file, vm = definition(web.folder), web.whole()
    whole = file.read_text()
    start(node, web)
    stop(node, web)
    assert file.read_text() == whole
    file.write_text(whole.replace(f'"version": {VERSION}', '"version": 0').replace('"memory"', '"ram"'))
    assert start(node, web).vm == vm
    assert file.read_text() == whole
    assert "mv -T" in command_log(web.folder).read_text().partition("write its definition")[2]


def test_one_of_a_newer_virshle_is_neither_started_nor_deleted(web: Entry, node: Node, host: FakeHost) -> None:
    file = definition(web.folder)
    file.write_text(file.read_text().replace(f'"version": {VERSION}', f'"version": {VERSION + 1}'))
    before = snapshot(node.paths.state)
    for verb in (start, stop, delete):
        with pytest.raises(ConflictError, match="made by a newer virshle") as caught:
            verb(node, node.store.find("web"))
        assert "use the virshle that wrote " in caught.value.hint
    create(node, Order("t", "other"))
    delete(node, node.store.find("other"))
    assert snapshot(node.paths.state) == before
    delete(node, node.store.find("web"), force=True)
    assert node.store.entries() == []


def test_a_running_vm_is_left_as_it_is(web: Entry, node: Node, host: FakeHost) -> None:
    start(node, web)
    host.calls.clear()
    again = start(node, web)
    assert again.already
    assert again.launch is not None
    assert host.calls == []


def test_one_whose_guest_panicked_is_not_said_to_run(web: Entry, node: Node, host: FakeHost, guest: Guest) -> None:
    start(node, web)
    guest.status = "guest-panicked"
    host.calls.clear()
    with pytest.raises(ConflictError, match="web cannot start: its guest panicked") as caught:
        start(node, web)
    assert caught.value.hint.endswith("v stop --force web")
    assert host.calls == []


@pytest.mark.parametrize("how", ["missing", "a folder", "a link to elsewhere"])
@pytest.mark.parametrize("name", ["disk/os", "boot/efivars.fd"])
def test_a_vm_without_its_files_is_not_started(how: str, name: str, web: Entry, node: Node, host: FakeHost) -> None:
    path = web.folder / name
    path.unlink(missing_ok=True)
    if (name, how) == ("boot/efivars.fd", "missing"):
        start(node, web)
        assert path.read_text() == "vars"  # made where it is not there
        return
    if how == "a folder":
        path.mkdir()
    elif how == "a link to elsewhere":
        path.symlink_to("/etc/passwd")
    with pytest.raises(ConflictError, match=f"web cannot start: .*{path.name}"):
        start(node, web)
    assert host.calls == []


def test_a_disk_that_was_cut_short_is_not_run_on(web: Entry, node: Node, host: FakeHost, guest: Guest) -> None:
    disk = web.folder / "disk/data"
    os.truncate(disk, 2**21 - 1)
    short = "data was cut short: it has 2097151 bytes, but the disk has 2097152"
    with pytest.raises(ConflictError, match=short) as caught:
        start(node, web)
    assert caught.value.exit_code == 5
    assert caught.value.hint.endswith(f"truncate -s 2097152 {disk}")
    assert host.calls == []
    # One that was grown by hand is its owner's.
    os.truncate(disk, 2**22)
    assert not start(node, web).already


def test_a_folder_on_the_way_may_not_lead_elsewhere(web: Entry, node: Node, tmp_path: Path) -> None:
    (web.folder / "disk").rename(tmp_path / "elsewhere")
    (web.folder / "disk").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConflictError, match="cannot start"):
        start(node, web)


def test_a_qemu_that_dies_at_once_is_told_with_its_log(web: Entry, node: Node, host: FakeHost) -> None:
    def die() -> None:
        (web.folder / "log/vmm.log").write_text("qemu: no such machine\n")
        host.die()

    host.launched = die
    with pytest.raises(HostError, match="gave up waiting") as caught:
        start(node, web)
    assert "qemu: no such machine" in told(caught.value)
    assert node.process(web.uuid) is None


def test_a_start_that_fails_late_ends_what_it_started(web: Entry, node: Node, host: FakeHost, guest: Guest) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    host.launched = interrupt
    with pytest.raises(KeyboardInterrupt):
        start(node, web)
    assert host.alive == []
    assert len(host.kills) == 1


def test_two_do_not_start_one_vm_at_once(web: Entry, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lock.__init__, "__kwdefaults__", {"shared": False, "patience": 0, "told": None})
    with Lock(web.folder), pytest.raises(ConflictError, match="is locked"):
        start(node, web)


def test_a_vm_that_went_in_the_meantime_is_not_found(web: Entry, node: Node) -> None:
    delete(node, web)
    for act in (start, stop, delete):
        with pytest.raises(NotFoundError, match="was deleted in the meantime"):
            act(node, web)


def test_a_dry_start_shows_all_and_starts_nothing(web: Entry, node: Node, host: FakeHost) -> None:
    shown: list[str] = []
    before = snapshot(node.config.paths.state)
    start(replace(node, dry_run=shown.append), web)
    assert snapshot(node.config.paths.state) == before
    assert any('setsid "$@"' in text for text in shown)
    assert {argv[1] for argv in host.calls} <= {"--version"}
    assert host.alive == []


def test_a_stop_presses_the_power_button(web: Entry, node: Node, host: FakeHost, guest: Guest) -> None:
    start(node, web)
    assert stop(node, web).how == "gracefully"
    assert "system_powerdown" in guest.asked
    assert host.kills == []
    assert node.process(web.uuid) is None


def test_a_stopped_vm_is_stopped_already(web: Entry, node: Node, guest: Guest) -> None:
    assert stop(node, web).how == "already"
    assert guest.asked == []


def test_a_guest_that_does_not_power_off_is_left_running(web: Entry, node: Node, host: FakeHost, guest: Guest) -> None:
    start(node, web)
    guest.power_button = lambda: None
    with pytest.raises(TimedOutError) as caught:
        stop(node, web, timeout=0.05)
    assert caught.value.message.startswith("web did not power off and is left running: gave up waiting for web")
    assert "v stop --force web" in caught.value.hint
    assert node.process(web.uuid) is not None
    assert host.kills == []


def test_a_guest_that_stands_still_at_a_full_disk_is_not_to_be_cut(web: Entry, node: Node, guest: Guest) -> None:
    start(node, web)
    guest.power_button = lambda: setattr(guest, "status", "io-error")
    with pytest.raises(TimedOutError) as caught:
        stop(node, web, timeout=0.05)
    said = "web did not power off: QEMU paused it: a disk of the host is full or fails"
    assert (caught.value.message, caught.value.hint) == (said, "make room (df -h), then: v resume web")
    assert node.process(web.uuid) is not None


def test_only_force_cuts_its_power(web: Entry, node: Node, host: FakeHost, guest: Guest) -> None:
    start(node, web)
    guest.power_button = lambda: None
    assert stop(node, web, force=True, timeout=0.05).how == "by force"
    assert [argv[-2:] for argv in host.kills] == [(str(os.getpid()), str(node.place(web.uuid).record))]
    assert node.process(web.uuid) is None


def test_force_works_where_qemu_does_not_listen(web: Entry, node: Node, guest: Guest) -> None:
    start(node, web)

    def broken() -> None:
        raise HostError("QEMU closed its QMP socket")

    guest.power_button = broken
    assert stop(node, web, force=True, timeout=0.05).how == "by force"


@pytest.mark.parametrize("act", [start, stop, delete], ids=["start", "stop", "delete"])
def test_a_broken_vm_is_left_alone(act: object, node: Node, layout: Layout, host: FakeHost) -> None:
    put_broken(layout, BAD, name="bad")
    before = snapshot(layout.paths.state)
    with pytest.raises(ConflictError, match="bad is broken"):
        act(node, node.store.find("bad"))  # type: ignore[operator]
    assert snapshot(layout.paths.state) == before


def test_a_vm_that_is_no_folder_is_an_error_to_act_on(node: Node, layout: Layout) -> None:
    layout.vm(BAD).write_text("")
    with pytest.raises(VirshleError):
        delete(node, node.store.find(str(BAD)), force=True)


def test_a_vm_for_a_hypervisor_we_cannot_drive_is_not_started(node: Node, layout: Layout, host: FakeHost) -> None:
    put_vm(layout, make_vm("ch", hypervisor="cloud-hypervisor"))
    with pytest.raises(ConfigError, match="cloud-hypervisor"):
        start(node, node.store.find("ch"))
    assert host.calls == []


def test_a_start_is_recorded_with_its_token_in_the_vms_own_folder(web: Entry, node: Node, host: FakeHost) -> None:
    launch = start(node, web).launch
    assert launch is not None
    assert (web.folder / "vmm.pid").read_text() == record_of(os.getpid(), launch.token)
    (argv,) = host.launches
    assert argv[-1] == str(web.folder / "vmm.sh")
    (script,) = host.started
    assert (script.record, script.token) == (web.folder / "vmm.pid", launch.token)
    assert read_launch(node.place(web.uuid)) == launch


def test_no_two_starts_have_one_token(web: Entry, node: Node, host: FakeHost) -> None:
    tokens = set()
    for _ in range(3):
        launch = start(node, web).launch
        assert launch is not None
        tokens.add(launch.token)
        host.die()
    assert len(tokens) == 3


def test_what_the_last_run_said_is_not_believed(web: Entry, node: Node, host: FakeHost) -> None:
    start(node, web)
    ready = node.layout.run(web.uuid) / "ready"
    ready.write_text("READY=1\n")
    host.die()
    start(node, web)
    assert not ready.exists()


def test_a_failed_start_never_ends_what_another_started(web: Entry, node: Node, host: FakeHost) -> None:
    """Its VM runs already, started by another in the meantime."""

    def meanwhile(argv: tuple[str, ...]) -> None:
        if argv in host.launches and not host.alive:
            host.alive.append(Held(web.folder / "vmm.pid", record_of(os.getpid(), "another's")))

    host.before = meanwhile
    with pytest.raises(HostError, match="failed with exit code 75"):
        start(node, web)
    assert len(host.kills) == 1  # tried
    assert len(host.alive) == 1  # in vain
    assert (web.folder / "vmm.pid").read_text() == record_of(os.getpid(), "another's")


def test_a_vm_that_ends_by_itself_while_the_button_is_pressed_is_stopped(
    web: Entry, node: Node, host: FakeHost, guest: Guest
) -> None:
    start(node, web)

    def end() -> None:
        host.die()
        raise HostError("QEMU closed its QMP socket")

    guest.power_button = end
    for force in (False, True):
        assert stop(node, web, force=force, timeout=5).how == ("already" if force else "gracefully")
    assert host.kills == []


def test_a_vm_whose_button_cannot_be_pressed_is_left_running(
    web: Entry, node: Node, host: FakeHost, guest: Guest
) -> None:
    start(node, web)

    def broken() -> None:
        raise HostError("QEMU closed its QMP socket")

    guest.power_button = broken
    host.entered = lambda command: 255
    with pytest.raises(HostError) as caught:
        stop(node, web, timeout=5)
    message = "web did not power off and is left running: QEMU closed its QMP socket"
    assert (caught.value.message, caught.value.exit_code) == (message, 6)
    assert caught.value.hint == "cut its power: v stop --force web"
    assert host.alive


@pytest.mark.parametrize("act", ["stop", "delete"])
def test_a_process_that_is_not_known_is_not_killed(
    act: str, web: Entry, node: Node, host: FakeHost, guest: Guest
) -> None:
    start(node, web)
    guest.power_button = lambda: None
    (web.folder / "vmm.pid").write_text(f"{os.getppid()} boot token\n")
    with pytest.raises(ConflictError, match="web runs, but its record does not name the process") as caught:
        stop(node, web, force=True, timeout=0.05) if act == "stop" else delete(node, web, force=True)
    assert "fuser -v" in caught.value.hint
    assert host.kills == []
    assert host.alive
    assert web.folder.exists()


def test_the_timeout_is_told_as_it_was_given(web: Entry, node: Node, host: FakeHost, guest: Guest) -> None:
    start(node, web)
    guest.power_button = lambda: None
    with pytest.raises(TimedOutError) as caught:
        stop(node, web, timeout=0.25)
    assert caught.value.message.endswith(" after 0.25 s")


def test_no_time_to_power_off_is_no_reason_not_to_press_the_button(
    web: Entry, node: Node, host: FakeHost, guest: Guest
) -> None:
    start(node, web)
    pressed: list[str] = []
    guest.power_button = lambda: pressed.append("pressed")
    with pytest.raises(TimedOutError):
        stop(node, web, timeout=0)
    assert pressed == ["pressed"]


def test_a_guest_that_was_booting_feels_a_later_press(
    web: Entry, node: Node, host: FakeHost, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(node, web)
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr("virshle.plan.executor.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("virshle.plan.executor.time.sleep", sleep)
    presses: list[float] = []

    def press() -> None:
        presses.append(clock[0])
        if clock[0] > 8:
            host.die()

    guest.power_button = press
    assert stop(node, web).how == "gracefully"
    assert len(presses) > 1
    assert host.kills == []
    assert "system_powerdown" in command_log(web.folder).read_text().partition("web to power off")[2]
