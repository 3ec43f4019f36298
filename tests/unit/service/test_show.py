from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import Guest
from tests.unit.support import make_vm, mark_running, put_broken, put_vm, uuid_of
from tests.unit.vmm.test_driver import LAUNCH
from virshle.service.node import Node
from virshle.service.show import details, emulated, log_file, row
from virshle.store import Layout
from virshle.vmm.driver import launch_file


@pytest.fixture
def running(layout: Layout, host: FakeHost, guest: Guest) -> None:
    put_vm(layout, make_vm(account=str(uuid_of("a"))))
    run = mark_running(layout, uuid_of("web"))
    host.alive.add(int((run / "pid").read_text().split()[0]))
    launch_file(run).write_text(LAUNCH.json())


def test_a_running_vm_shows_how_it_is_reached(running: None, node: Node) -> None:
    shown = row(node, node.store.find("web"))
    assert (shown.id, shown.name, shown.state, shown.vcpu, shown.memory) == (1, "web", "running", 2, 2**29)
    assert (shown.template, shown.image, shown.ssh, shown.account) == (
        "tiny",
        "tiny",
        "127.0.0.1:22001",
        str(uuid_of("a")),
    )
    assert shown.created == "2024-05-06T07:08:09Z"
    assert shown.problem is None


def test_a_stopped_one_does_not(running: None, node: Node, host: FakeHost) -> None:
    host.die()
    shown = row(node, node.store.find("web"))
    assert (shown.state, shown.ssh) == ("stopped", None)


@pytest.mark.parametrize(("status", "state"), [("paused", "paused"), ("guest-panicked", "crashed"), ("?", "unknown")])
def test_the_vmm_says_in_which_state_it_is(status: str, state: str, running: None, node: Node, guest: Guest) -> None:
    guest.status = status
    assert row(node, node.store.find("web")).state == state


def test_a_broken_one_shows_its_problem(node: Node, layout: Layout) -> None:
    put_broken(layout, uuid_of("bad"), name="bad")
    shown = row(node, node.store.find("bad"))
    assert (shown.id, shown.name, shown.state, shown.vcpu, shown.image) == (None, "bad", "broken", None, None)
    assert "Invalid JSON" in (shown.problem or "")
    assert details(node, node.store.find("bad"))["folder"] == str(layout.vm(uuid_of("bad")))


def test_a_vm_of_a_plain_file_shows_the_file(node: Node, layout: Layout) -> None:
    put_vm(layout, make_vm(origin={"source": "/img.raw"}))
    assert row(node, node.store.find("web")).image == "/img.raw"


def test_details_have_files_nets_and_how_it_runs(running: None, node: Node, layout: Layout) -> None:
    found = details(node, node.store.find("web"))
    folder = layout.vm(uuid_of("web"))
    assert found["disks"] == [{"name": "os", "file": str(folder / "disk/os"), "size": 2**20}]
    assert found["nets"] == [{"name": "main", "type": "user", "mac": "02:00:00:00:00:01"}]
    assert found["boot"]["kind"] == "kernel"
    assert found["run"]["pid"] > 0
    assert found["run"]["ssh_port"] == 22001
    assert "problem" not in found


@pytest.mark.parametrize(("accelerator", "told"), [("kvm", False), ("tcg", True)])
def test_software_emulation_is_told(accelerator: str, told: bool) -> None:
    launch = replace(LAUNCH, accelerator=accelerator)
    assert ("software emulation" in emulated(launch)) is told
    assert emulated(None) == ""


@pytest.mark.parametrize(
    ("kind", "name"), [("console", "console.log"), ("vmm", "vmm.log"), ("commands", "commands.log")]
)
def test_each_log_is_in_the_vms_folder(kind: str, name: str, node: Node, layout: Layout) -> None:
    folder = put_vm(layout, make_vm())
    assert log_file(node.store.find("web"), kind) == folder / "log" / name
