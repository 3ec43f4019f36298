"""What a VM is said to be, whatever became of its process; and what each verb makes of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import CloudGuest, Guest
from tests.unit.support import record_of
from virshle.errors import ConflictError, HostError
from virshle.exec.process import recorded
from virshle.service.lifecycle import pause, resume, stop
from virshle.service.node import Entry, Node
from virshle.service.select import Selection, select
from virshle.service.show import Row, details, row
from virshle.service.start import start

ANOTHER_BOOT = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def qemu_web(web: Entry, node: Node, guest: Guest) -> Entry:
    """Runs on QEMU, which has its pid file."""
    start(node, web)
    (web.folder / "log").mkdir(exist_ok=True)
    (web.folder / "log/qemu.pid").write_text("7\n")
    return web


def _say(entry: Entry, text: str) -> None:
    with (entry.folder / "log/vmm.log").open("a") as log:
        log.write(text)


def _shown(node: Node) -> Row:
    return row(node, node.store.find("web"))


def test_a_vmm_that_died_has_crashed_and_its_last_words_are_told(qemu_web: Entry, node: Node, host: FakeHost) -> None:
    _say(qemu_web, "started\nout of memory\n")
    host.die()
    shown = _shown(node)
    assert (shown.state, shown.ssh) == ("crashed", None)
    assert shown.problem == "its VMM died; its log ends with: out of memory"
    found = details(node, qemu_web)
    assert found["log"] == ["started", "out of memory"]
    assert (found["run"]["hypervisor"], found["run"]["pid"]) == ("qemu", None)


@pytest.mark.parametrize("log", [None, b"", b"\xff"])
def test_one_whose_log_was_taken_away_has_crashed_all_the_same(
    log: bytes | None, qemu_web: Entry, node: Node, host: FakeHost
) -> None:
    file = qemu_web.folder / "log/vmm.log"
    file.unlink()
    if log is not None:
        file.write_bytes(log)
    host.die()
    assert details(node, qemu_web)["state"] == "crashed"
    assert _shown(node).problem == "its VMM died and wrote no message"


def test_what_an_earlier_run_said_is_not_its_last_word(qemu_web: Entry, node: Node, host: FakeHost) -> None:
    _say(qemu_web, "all is lost\n")
    host.die()
    start(node, qemu_web)
    host.die()
    assert _shown(node).problem == "its VMM died and wrote no message"
    assert details(node, qemu_web)["log"] == []


def test_one_that_took_its_leave_has_stopped(qemu_web: Entry, node: Node, host: FakeHost) -> None:
    (qemu_web.folder / "log/qemu.pid").unlink()
    host.die()
    shown = _shown(node)
    assert (shown.state, shown.problem) == ("stopped", None)
    assert "run" not in details(node, qemu_web)


@pytest.mark.parametrize("force", [False, True])
def test_one_that_was_told_to_end_has_stopped_however_it_did(
    force: bool, qemu_web: Entry, node: Node, guest: Guest
) -> None:
    if force:
        guest.power_button = lambda: None
    assert stop(node, qemu_web, force=force, timeout=0.05 if force else 30).how.startswith("by" if force else "grace")
    assert (qemu_web.folder / "log/qemu.pid").exists()
    assert _shown(node).state == "stopped"
    assert recorded(node.place(qemu_web.uuid).record) is None


def test_one_that_ran_when_the_host_went_down_has_not_crashed(qemu_web: Entry, node: Node, host: FakeHost) -> None:
    place = node.place(qemu_web.uuid)
    token = place.record.read_text().split()[-1]
    host.die()
    place.record.write_text(record_of(7, token, ANOTHER_BOOT))
    shown = _shown(node)
    assert (shown.state, shown.problem) == ("stopped", "the host went down while it ran")


def test_an_ordinary_shutdown_of_the_host_is_none_of_that(web: Entry, node: Node, cloud: CloudGuest) -> None:
    """Its unit is stopped then, by the power button."""
    start(node, web)
    place = node.place(web.uuid)
    token = place.record.read_text().split()[-1]
    cloud.power_off()
    place.record.write_text(record_of(7, token, ANOTHER_BOOT))
    shown = _shown(node)
    assert (shown.state, shown.problem) == ("stopped", None)


@pytest.mark.parametrize("record", [None, "", "7 boot", "another run's"])
def test_a_launch_that_no_record_knows_has_not_crashed(
    record: str | None, qemu_web: Entry, node: Node, host: FakeHost
) -> None:
    """A start was killed before its VMM began."""
    place = node.place(qemu_web.uuid)
    host.die()
    if record is None:
        place.record.unlink()
    else:
        place.record.write_text(record_of(7, "older") if record == "another run's" else record)
    shown = _shown(node)
    assert (shown.state, shown.problem) == ("stopped", None)


@pytest.mark.parametrize("launch", [None, "", "{", '{"version": 99}', "[]"])
def test_a_run_that_was_not_noted_is_known_by_its_process(
    launch: str | None, qemu_web: Entry, node: Node, host: FakeHost, guest: Guest
) -> None:
    place = node.place(qemu_web.uuid)
    if launch is None:
        place.launch.unlink()
    else:
        place.launch.write_text(launch)
    assert (_shown(node).state, _shown(node).ssh) == ("running", None)
    assert "run" not in details(node, qemu_web)
    assert start(node, qemu_web).already
    host.die()
    assert _shown(node).state == "stopped"


def test_one_that_crashed_is_started_again(qemu_web: Entry, node: Node, host: FakeHost) -> None:
    host.die()
    assert _shown(node).state == "crashed"
    assert not start(node, qemu_web).already
    assert (_shown(node).state, _shown(node).problem) == ("running", None)


def test_a_stop_lays_one_that_crashed_to_rest(qemu_web: Entry, node: Node, host: FakeHost) -> None:
    host.die()
    assert stop(node, qemu_web).how == "after its crash"
    assert _shown(node).state == "stopped"
    assert stop(node, qemu_web).how == "already"


def test_cloud_hypervisors_end_is_told_by_its_events(web: Entry, node: Node, host: FakeHost, cloud: CloudGuest) -> None:
    launch = start(node, web).launch
    assert launch is not None
    assert launch.hypervisor == "cloud-hypervisor"
    assert cloud.asked == ["vmm.ping", "vm.create", "vm.boot"]
    assert _shown(node).state == "running"
    host.die()
    assert _shown(node).state == "crashed"
    start(node, web)
    cloud.power_off()
    assert _shown(node).state == "stopped"


@pytest.mark.parametrize("endpoint", ["vm.create", "vm.boot"])
def test_a_vm_that_cannot_boot_leaves_no_vmm(
    endpoint: str, web: Entry, node: Node, host: FakeHost, cloud: CloudGuest
) -> None:
    cloud.refused[endpoint] = "cloud-hypervisor refused: the disk is already locked"
    with pytest.raises(HostError, match="already locked"):
        start(node, web)
    assert host.alive == []
    assert _shown(node).state == "stopped"
    assert not node.place(web.uuid).launch.exists()
    cloud.refused.clear()
    assert not start(node, web).already


@pytest.fixture
def half(web: Entry, node: Node, cloud: CloudGuest, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """Its VMM runs, and was never told to boot the guest: the `v` that started it was killed, and undid nothing."""

    def killed(endpoint: str) -> None:
        if endpoint == "vm.create":
            raise SystemExit

    cloud.before = killed
    with monkeypatch.context() as patch:
        patch.setattr("virshle.plan.executor.Apply.undo", lambda _: [])
        with pytest.raises(SystemExit):
            start(node, web)
    cloud.before = lambda endpoint: None
    cloud.asked.clear()
    return web


def test_one_that_was_started_by_half_says_so(half: Entry, node: Node) -> None:
    assert node.process(half.uuid) is not None
    assert _shown(node).state == "starting"
    assert [entry.name for entry in select(node, Selection(state="starting"))] == ["web"]
    assert select(node, Selection(state="running")) == []


def test_a_start_ends_what_another_left_by_half_first(
    half: Entry, node: Node, host: FakeHost, cloud: CloudGuest
) -> None:
    before = [script.token for script in host.started]
    host.calls.clear()
    assert not start(node, half).already
    (kill,) = host.kills
    assert host.calls.index(kill) < host.calls.index(host.launches[0])
    assert kill[-2:] == (str(os.getpid()), str(node.place(half.uuid).record))
    assert _shown(node).state == "running"
    assert host.started[-1].token not in before
    assert "vm.power-button" not in cloud.asked


def test_a_stop_of_it_waits_for_no_guest(half: Entry, node: Node, host: FakeHost, cloud: CloudGuest) -> None:
    assert stop(node, half).how == "before its guest began"
    assert "vm.power-button" not in cloud.asked
    assert host.alive == []
    assert _shown(node).state == "stopped"


Act = Callable[[Node, Entry], bool]


@pytest.mark.parametrize("hypervisor", ["qemu", "cloud"])
def test_it_stands_still_and_goes_on(hypervisor: str, web: Entry, node: Node, request: pytest.FixtureRequest) -> None:
    vmm: Guest | CloudGuest = request.getfixturevalue("guest" if hypervisor == "qemu" else "cloud")
    start(node, web)
    assert not resume(node, web)
    assert pause(node, web)
    assert _shown(node).state == "paused"
    assert not pause(node, web)
    assert resume(node, web)
    assert _shown(node).state == "running"
    words = ("stop", "cont") if hypervisor == "qemu" else ("vm.pause", "vm.resume")
    assert [asked for asked in vmm.asked if asked in words] == list(words)  # each once


@pytest.mark.parametrize("act", [pause, resume])
def test_one_that_does_not_run_can_do_neither(act: Act, web: Entry, node: Node, guest: Guest) -> None:
    with pytest.raises(ConflictError, match="web is stopped") as caught:
        act(node, web)
    assert caught.value.hint == "start it: v start web"


def test_a_paused_guest_is_let_go_on_to_feel_the_button(web: Entry, node: Node, guest: Guest) -> None:
    start(node, web)
    pause(node, web)
    guest.asked.clear()
    assert stop(node, web).how == "gracefully"
    assert [asked for asked in guest.asked if asked != "query-status"] == ["cont", "system_powerdown"]


def test_who_pauses_what_its_vmm_refuses_is_told_why(web: Entry, node: Node, cloud: CloudGuest) -> None:
    start(node, web)
    cloud.refused["vm.pause"] = "cloud-hypervisor refused `vm.pause`: busy"
    with pytest.raises(HostError, match="busy"):
        pause(node, web)
    assert _shown(node).state == "running"


def test_what_lies_in_its_folder_of_logs_is_not_followed(
    qemu_web: Entry, node: Node, host: FakeHost, tmp_path: Path
) -> None:
    """It is the VMM's user's, and who looks is root."""
    (tmp_path / "secret").write_text("first\nhash\n")
    (qemu_web.folder / "log/vmm.log").unlink()
    (qemu_web.folder / "log/vmm.log").symlink_to(tmp_path / "secret")
    host.die()
    assert "hash" not in str(details(node, qemu_web))
