from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.support import make_vm
from tests.unit.vmm.test_driver import LAUNCH
from virshle.errors import ConfigError, ConflictError, HostError, TimedOutError, VirshleError
from virshle.model.arch import ARCHES
from virshle.model.vm import Vm
from virshle.plan import Call, Gone, Wait
from virshle.rpc import Http, Vsock
from virshle.vmm import account, cloud_hypervisor
from virshle.vmm.ch_config import vm_config
from virshle.vmm.cloud_hypervisor import CloudHypervisor, find_firmware, version
from virshle.vmm.driver import Machine, Place, Terminal

CH = CloudHypervisor()
CH_LAUNCH = replace(
    LAUNCH, hypervisor="cloud-hypervisor", program="cloud-hypervisor", version="53.0", accelerator="kvm", cid=3
)
BOOTED = [("vmm", "starting"), ("vm", "booting"), ("virtio-device", "activated"), ("vm", "booted")]
SHUT = [("vm", "shutdown"), ("vm", "deleted"), ("vmm", "shutdown")]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / str(make_vm().uuid), tmp_path / "r")
    place.logs.mkdir(parents=True)
    place.run.mkdir()
    return place


def _machine(place: Place, vm: Vm | None = None, **launch: Any) -> Machine:
    return Machine(vm or make_vm(), place, replace(CH_LAUNCH, **launch))


def _events(*events: tuple[str, str]) -> str:
    """As it writes them: over several lines, and a blank one between."""
    return "".join(
        json.dumps(
            {"timestamp": {"secs": 1, "nanos": 2}, "source": source, "event": event, "properties": None}, indent=2
        )
        + "\n\n"
        for source, event in events
    )


def _write(place: Place, text: str) -> None:
    (place.logs / "web.events.json").write_text(text)


class Asked:
    """What it was asked by its socket, and what it answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[Http] = []
        self.answer: Mapping[str, Any] | VirshleError = HostError("nobody listens")

        def send(request: Http) -> Mapping[str, Any]:
            self.requests.append(request)
            if isinstance(self.answer, VirshleError):
                raise self.answer
            return self.answer

        monkeypatch.setattr(Http, "send", send)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("cloud-hypervisor v53.0.0\n", (53, 0)),
        ("cloud-hypervisor v48.0-12-gdeadbeef\n", (48, 0)),
        ("cloud-hypervisor v50.1.0-dirty", (50, 1)),
        ("cloud-hypervisor v100.12", (100, 12)),
    ],
)
def test_its_version_is_asked_once(said: str, found: tuple[int, int], host: FakeHost) -> None:
    host.answers["cloud-hypervisor"] = said
    assert version("cloud-hypervisor") == found
    assert version("cloud-hypervisor") == found
    assert len(host.calls) == 1


@pytest.mark.parametrize("said", ["", "cloud-hypervisor\n", "version unknown", "v53"])
def test_one_that_does_not_say_its_version_is_none(said: str, host: FakeHost) -> None:
    host.answers["cloud-hypervisor"] = said
    with pytest.raises(ConfigError, match="does not say its version") as caught:
        version("cloud-hypervisor")
    assert "github.com/cloud-hypervisor" in caught.value.hint


def test_where_all_is_there_it_is_chosen(host: FakeHost) -> None:
    host.have_cloud_hypervisor("v52.0.0")
    choice = CH.choose(make_vm(), None)
    assert (choice.hypervisor, choice.version, choice.accelerator) == ("cloud-hypervisor", "52.0", "kvm")
    assert choice.program == str(host.programs / "cloud-hypervisor")
    assert (choice.cid, choice.firmware, choice.instead) == (3, None, "")


@pytest.mark.parametrize("lack", ["program", "version", "kvm", "passt"])
def test_what_it_lacks_is_told_with_its_remedy(lack: str, host: FakeHost) -> None:
    host.have_cloud_hypervisor("v47.9.0" if lack == "version" else "v48.0.0")
    if lack in ("program", "passt"):
        (host.programs / {"program": "cloud-hypervisor", "passt": "passt"}[lack]).unlink()
    if lack == "kvm":
        host.kvm = "/dev/kvm may not be opened"
    with pytest.raises(ConfigError) as caught:
        CH.choose(make_vm(), None)
    message, hint = {
        "program": ("cloud-hypervisor is not on this machine", "releases"),
        "version": ("is v47.9, and v48.0 is the oldest version that virshle supports", "releases"),
        "kvm": ("cloud-hypervisor needs KVM: /dev/kvm may not be opened", 'hypervisor = "qemu"'),
        "passt": ("passt is not on this machine", "install it"),
    }[lack]
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 3


def test_without_a_net_no_network_is_needed(host: FakeHost) -> None:
    host.have_cloud_hypervisor()
    (host.programs / "passt").unlink()
    assert CH.choose(make_vm(nets=[]), None).cid == 3


def test_kvm_is_asked_for_whom_it_will_run_as(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.have_cloud_hypervisor()
    users: list[str | None] = []

    def problem(_: object, user: str | None) -> str:
        users.append(user)
        return ""

    monkeypatch.setattr(cloud_hypervisor, "kvm_problem", problem)
    monkeypatch.setattr(account, "check_way", lambda *_, **__: None)
    CH.available("virshle-vmm")
    CH.available(None)
    assert users == ["virshle-vmm", None]


def test_the_first_firmware_there_is_taken(tmp_path: Path) -> None:
    arch = replace(ARCHES["x86_64"], ch_firmware=tuple(str(tmp_path / name) for name in "abc"))
    (tmp_path / "a").mkdir()  # no file
    for name in "bc":
        (tmp_path / name).touch()
    assert find_firmware(None, arch) == tmp_path / "b"
    assert find_firmware(str(tmp_path / "c"), arch) == tmp_path / "c"


@pytest.mark.parametrize("wanted", [None, "/nowhere/mine.fd"])
def test_a_firmware_that_is_nowhere_is_told(wanted: str | None, tmp_path: Path, host: FakeHost) -> None:
    arch = replace(ARCHES["x86_64"], ch_firmware=(str(tmp_path / "a"), str(tmp_path / "b")))
    with pytest.raises(ConfigError) as caught:
        find_firmware(wanted, arch)
    assert caught.value.exit_code == 3
    assert (wanted or f"{tmp_path}/a, {tmp_path}/b") in caught.value.message
    assert "CLOUDHV.fd" in caught.value.hint


def test_a_vm_that_boots_by_firmware_gets_its_own(host: FakeHost, tmp_path: Path) -> None:
    host.have_cloud_hypervisor()
    mine = tmp_path / "mine.fd"
    mine.touch()
    boot = {"kind": "firmware", "variables": "boot/efivars.fd", "firmware": str(mine)}
    assert CH.choose(make_vm(boot=boot), None).firmware == str(mine)


def test_its_process_tells_name_and_uuid(place: Place) -> None:
    vmm = CH.vmm(_machine(place))
    assert vmm.argv[0] == "cloud-hypervisor"
    words = " ".join(vmm.argv)
    assert "web" in words
    assert str(make_vm().uuid) in words
    assert f"path={place.run / 'ch.sock'}" in vmm.argv
    assert vmm.output == place.console_log  # serial port and stdout are one


def test_its_power_button_is_felt_by_a_guest_that_was_paused(place: Place) -> None:
    said = [shlex.split(line) for line in CH.vmm(_machine(place)).power_button.split("; ")]
    assert [words[:2] for words in said] == [["send", "ch.sock"]] * 2
    wire = [words[2].encode().decode("unicode_escape") for words in said]
    assert wire == [
        f"PUT /api/v1/{endpoint} HTTP/1.1\r\nHost: localhost\r\n\r\n" for endpoint in ("vm.resume", "vm.power-button")
    ]


def test_nothing_of_an_earlier_run_is_taken_for_this_ones(place: Place) -> None:
    nets = [{"name": f"n{n}", "type": "user", "mac": f"02:00:00:00:00:0{n}"} for n in range(2)]
    assert set(CH.vmm(_machine(place, make_vm(nets=nets))).stale) == {
        *(place.run / name for name in ("ch.sock", "vsock", "net0.sock", "net1.sock")),
        place.logs / "web.events.json",
    }


@pytest.mark.parametrize("unit", [None, "virshle-vm-web"])
def test_each_net_has_a_process_and_the_first_lets_ssh_in(unit: str | None, place: Place) -> None:
    nets = [{"name": f"n{n}", "type": "user", "mac": f"02:00:00:00:00:0{n}"} for n in range(2)]
    helpers = CH.vmm(_machine(place, make_vm(nets=nets), unit=unit)).helpers
    passts = [shlex.split(line) for line in helpers if line.startswith("passt")]
    sockets = [words[words.index("--socket") + 1] for words in passts]
    assert sockets == [str(place.run / "net0.sock"), str(place.run / "net1.sock")]
    assert [words[words.index("--tcp-ports") + 1] for words in passts] == ["127.0.0.1/22001:22", "none"]
    assert all("--no-map-gw" in words and "--one-off" not in words for words in passts)
    # Where systemd ends a unit's processes nothing waits for the VMM's end.
    ends = [line for line in helpers if not line.startswith("passt")]
    assert len(ends) == (2 if unit is None else 0)
    assert all('flock --shared "$record" true; kill' in line and line.endswith("&") for line in ends)
    # The runtime folder may be gone when the VMM is.
    assert all(line.startswith("pid=$(cat ") and line.index("cat") < line.index("flock") for line in ends)


def test_a_boot_waits_gives_it_the_vm_and_boots_it(place: Place, host: FakeHost) -> None:
    host.have_cloud_hypervisor("v50.0.0")
    machine = _machine(place)
    wait, create, boot = CH.boot(machine)
    assert isinstance(wait, Wait)
    assert (wait.fatal, wait.logs) == (Gone(place.record), (place.vmm_log,))
    assert "vmm.ping" in wait.until.shell()
    assert isinstance(create, Call)
    assert isinstance(boot, Call)
    socket, nets = place.run / "ch.sock", [str(place.run / "net0.sock")]
    bodies = [vm_config(machine, (50, 0), landlock=on, sockets=nets) for on in (True, False)]
    assert create.request in [Http(socket, "vm.create", body, timeout=60) for body in bodies]
    assert boot.request == Http(socket, "vm.boot", timeout=60)
    assert CH.prepare(machine) == []


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([("vmm", "starting")], "starting"),
        ([("vmm", "starting"), ("vm", "booting")], "starting"),
        (BOOTED, "running"),
        ([*BOOTED, ("vm", "pausing"), ("vm", "paused")], "paused"),
        ([*BOOTED, ("vm", "paused"), ("vm", "resuming"), ("vm", "resumed")], "running"),
        ([*BOOTED, ("vm", "rebooting"), ("vm", "rebooted")], "running"),
        ([*BOOTED, ("vm", "rebooting")], "running"),
        ([*BOOTED, ("vm", "rebooting"), ("vm", "shutdown"), ("vm", "booting")], "running"),
        ([*BOOTED, ("vm", "rebooting"), ("vm", "rebooted"), ("vm", "paused")], "paused"),
        ([*BOOTED, ("virtio-device", "reset"), ("novel", "event")], "running"),
        ([*BOOTED, *SHUT[:1]], "starting"),
        ([*BOOTED, *SHUT[:2]], "starting"),
        ([("vmm", "starting"), ("vm", "restoring"), ("vm", "restored")], "paused"),
    ],
)
def test_the_state_is_what_the_last_event_left(
    events: list[tuple[str, str]], state: str, place: Place, asked: Asked
) -> None:
    _write(place, _events(*events))
    assert CH.state(place, CH_LAUNCH).state == state
    assert asked.requests == []


def test_a_vm_that_is_off_in_a_vmm_that_stays_says_how_to_boot_it(place: Place, asked: Asked) -> None:
    _write(place, _events(*BOOTED, *SHUT[:2]))
    said = "its guest is off, but cloud-hypervisor still runs; to boot it again: v start web"
    assert CH.state(place, CH_LAUNCH).about("web") == said
    _write(place, _events(*BOOTED))
    assert CH.state(place, CH_LAUNCH).about("web") == ""


@pytest.mark.parametrize("cut", [3, 4, 10, 50, 100])
def test_an_event_that_is_half_written_has_not_happened(cut: int, place: Place, asked: Asked) -> None:
    _write(place, _events(*BOOTED, ("vm", "paused"))[:-cut])
    assert CH.state(place, CH_LAUNCH).state == "running"


def test_the_first_event_that_is_read_may_be_cut(place: Place, asked: Asked) -> None:
    flood = _events(*[("virtio-device", "reset")] * 1000)
    assert len(flood) > 2**16
    _write(place, _events(*BOOTED) + flood + _events(("vm", "paused")))
    assert CH.state(place, CH_LAUNCH).state == "paused"
    assert asked.requests == []


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ({"state": "Running"}, "running"),
        ({"state": "Paused"}, "paused"),
        ({"state": "Created"}, "starting"),
        ({"state": "Shutdown"}, "starting"),
        ({"state": "BreakPoint"}, "paused"),
        ({}, "unknown"),
        (HostError("refused `vm.info`: VM is not created"), "starting"),
        (HostError("nobody listens"), "unknown"),
        (TimedOutError("busy"), "unknown"),
    ],
)
@pytest.mark.parametrize("why", ["a flood of events", "no events", "no launch"])
def test_where_events_do_not_say_it_is_asked(
    why: str, told: Mapping[str, Any] | VirshleError, state: str, place: Place, asked: Asked
) -> None:
    if why == "a flood of events":
        _write(place, _events(*BOOTED) + _events(*[("virtio-device", "reset")] * 1000))
    elif why == "no launch":
        _write(place, _events(*BOOTED))
    asked.answer = told
    assert CH.state(place, None if why == "no launch" else CH_LAUNCH).state == state
    (request,) = asked.requests
    assert (request.endpoint, request.method, request.socket) == ("vm.info", "GET", place.run / "ch.sock")
    assert request.timeout <= 1


@pytest.mark.parametrize(
    ("text", "well"),
    [
        (_events(*BOOTED, *SHUT), True),
        (_events(*BOOTED), False),
        (_events(*BOOTED, *SHUT[:2]), False),
        (_events(*BOOTED, *SHUT)[:-20], False),
        ("", False),
        ("\0" * 100, False),
        ("[" * 70_000, False),
        ("[]\n\n7\n\n" + _events(*SHUT), True),
    ],
)
def test_it_ended_well_where_it_said_so_last(text: str, well: bool, place: Place) -> None:
    _write(place, text)
    assert CH.ended_well(place, CH_LAUNCH) is well


def test_events_are_read_from_no_link(place: Place, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(_events(*BOOTED, *SHUT))
    (place.logs / "web.events.json").symlink_to(tmp_path / "elsewhere")
    assert not CH.ended_well(place, CH_LAUNCH)


def test_its_console_is_a_pty_that_it_tells(place: Place, asked: Asked) -> None:
    place.run.mkdir(parents=True, exist_ok=True)
    ours, theirs = os.openpty()
    try:
        path = os.ttyname(theirs)
        asked.answer = {"config": {"console": {"mode": "Pty", "file": path}}}
        assert CH.console(place) == Terminal(Path(path), "pty")
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("told", [{}, {"config": {}}, {"config": {"console": {"mode": "Off", "file": None}}}])
def test_one_without_a_console_says_so(told: Mapping[str, Any], place: Place, asked: Asked) -> None:
    asked.answer = told
    with pytest.raises(ConflictError, match="no console"):
        CH.console(place)


def test_each_verb_is_one_request(place: Place) -> None:
    steps = [CH.power_button(place, 7), CH.pause(place), CH.resume(place)]
    socket = place.run / "ch.sock"
    assert [step.request for step in steps if isinstance(step, Call)] == [
        Http(socket, "vm.power-button", timeout=7),
        Http(socket, "vm.pause"),
        Http(socket, "vm.resume"),
    ]


def test_the_way_to_the_guest_is_its_own_socket(place: Place) -> None:
    assert CH.vsock(place, 3, 22) == Vsock(3, 22, place.run / "vsock")
    assert CH.notify_socket(place) == place.run / "vsock_9000"
