"""What a VMM's command line says of how its VM runs is what was chosen for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.support import Held, make_vm, record_of
from tests.unit.vmm.test_driver import LAUNCH
from virshle.model.arch import host_arch
from virshle.vmm import seen
from virshle.vmm.cloud_hypervisor import CloudHypervisor
from virshle.vmm.driver import Launch, Machine, Place
from virshle.vmm.qemu import arguments
from virshle.vmm.seen import launch_of

QEMU = replace(LAUNCH, program="/usr/bin/qemu-system-x86_64")
CLOUD = replace(
    LAUNCH, hypervisor="cloud-hypervisor", program="/bin/cloud-hypervisor", accelerator="kvm", ssh_port=None, cid=3
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "run").mkdir()
    place = Place(tmp_path, tmp_path / "run")
    with Held(place.record, record_of(os.getpid(), LAUNCH.token)):
        yield place


def _runs(argv: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, unit: str | None = None) -> None:
    monkeypatch.setattr(seen, "argv_of", lambda pid: argv if pid == os.getpid() else ())
    monkeypatch.setattr(seen, "unit_of", lambda pid: unit)


def _argv(place: Place, launch: Launch) -> tuple[str, ...]:
    nets = [{"name": "main", "type": "user", "mac": "02:00:00:00:00:01"}] if launch.ssh_port else []
    machine = Machine(make_vm(nets=nets), place, launch)
    return CloudHypervisor().vmm(machine).argv if launch.hypervisor != "qemu" else arguments(machine, host_arch())


@pytest.mark.parametrize(
    "launch",
    [
        QEMU,
        replace(QEMU, ssh_port=None, cid=77, accelerator="kvm"),
        replace(QEMU, ssh_port=None),
        replace(QEMU, unit="virshle-vm-web"),
        CLOUD,
        replace(CLOUD, unit="virshle-vm-web"),
    ],
)
def test_what_was_chosen_is_seen(launch: Launch, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    _runs(_argv(place, launch), monkeypatch, launch.unit)
    found = launch_of(place)
    assert found is not None
    assert replace(found, version=launch.version, why=launch.why, started=launch.started) == launch
    assert "launch.json is lost" in found.why


def test_what_was_noted_of_this_run_is_believed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    _runs(_argv(place, QEMU), monkeypatch)
    place.launch.write_text(replace(QEMU, ssh_port=99).json())
    assert launch_of(place) == replace(QEMU, ssh_port=99)


def test_of_another_run_it_is_not(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    _runs(_argv(place, QEMU), monkeypatch)
    place.launch.write_text(replace(CLOUD, token="another").json())
    assert (found := launch_of(place)) is not None
    assert (found.hypervisor, found.ssh_port) == ("qemu", 22001)


def test_where_the_process_hides_it_the_note_is_all_there_is(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    _runs((), monkeypatch)
    assert launch_of(place) is None
    other = replace(QEMU, token="another")
    place.launch.write_text(other.json())
    assert launch_of(place) == other


@pytest.mark.parametrize(
    "argv",
    [
        ("qemu-system-x86_64",),
        ("qemu-system-x86_64", "-name"),
        ("qemu-system-x86_64", "-name", "guest=web"),
        ("qemu-system-x86_64", "-name", "guest=../web", "-machine", "q35"),
        ("qemu-system-x86_64", "-name", "guest=web", "-machine", "q35", "user,id=n,hostfwd=tcp:127.0.0.1:99999-:22"),
        ("qemu-system-x86_64", "-name", "guest=web", "-machine", "q35", "vhost-vsock-pci,guest-cid=9999999999"),
        ("cloud-hypervisor", "--event-monitor", "path=/x/y"),
        ("cloud-hypervisor", "--event-monitor", "path=/x/A B.events.json"),
        ("python3", "-name", "guest=web", "-machine", "q35"),
    ],
)
def test_a_command_line_that_is_not_ours_says_nothing(
    argv: tuple[str, ...], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _runs(argv, monkeypatch)
    assert launch_of(place) is None


def test_a_unit_is_one_of_ours(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A VMM that was started from a service by hand is in that."""
    _runs(_argv(place, QEMU), monkeypatch, "cron")
    assert (found := launch_of(place)) is not None
    assert found.unit is None
