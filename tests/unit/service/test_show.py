from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import Guest
from tests.unit.support import make_vm, put_broken, put_vm, uuid_of
from tests.unit.vmm.test_driver import LAUNCH
from virshle.errors import TimedOutError
from virshle.service.node import Node
from virshle.service.show import details, emulated, log_file, row, rows
from virshle.store import Layout


@pytest.fixture
def running(layout: Layout, host: FakeHost, guest: Guest) -> None:
    put_vm(layout, make_vm(account=str(uuid_of("a"))))
    host.run_vm(layout, uuid_of("web"), LAUNCH.token)
    (layout.vm(uuid_of("web")) / "launch.json").write_text(LAUNCH.json())


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


def test_one_that_was_stopped_by_no_user_says_why_and_what_to_do(running: None, node: Node, guest: Guest) -> None:
    guest.status = "io-error"
    entry = node.store.find("web")
    told = "QEMU paused it: a disk of the host is full or fails; make room (df -h), then: v resume web"
    assert row(node, entry).problem == details(node, entry)["problem"] == told
    guest.status = "paused"
    assert row(node, entry).problem is None
    guest.status = "guest-panicked"
    assert row(node, entry).problem == "its guest panicked, but QEMU still runs; to end it: v stop --force web"


def test_one_whose_vmm_does_not_answer_says_so(running: None, node: Node, guest: Guest) -> None:
    def silent() -> None:
        raise TimedOutError("QEMU did not answer")

    guest.ask = silent
    shown = row(node, node.store.find("web"))
    assert (shown.state, shown.problem) == ("unknown", "QEMU did not answer")


def test_a_broken_one_shows_its_problem(node: Node, layout: Layout) -> None:
    put_broken(layout, uuid_of("bad"), name="bad")
    shown = row(node, node.store.find("bad"))
    assert (shown.id, shown.name, shown.state, shown.vcpu, shown.image) == (None, "bad", "broken", None, None)
    assert "it is not JSON" in (shown.problem or "")
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
    ("kind", "name"), [("console", "log/console.log"), ("vmm", "log/vmm.log"), ("commands", "commands.log")]
)
def test_each_log_is_in_the_vms_folder(kind: str, name: str, node: Node, layout: Layout) -> None:
    folder = put_vm(layout, make_vm())
    assert log_file(node, node.store.find("web"), kind) == folder / name


def test_many_rows_are_read_at_the_same_time(node: Node, layout: Layout, host: FakeHost, guest: Guest) -> None:
    """VMMs that do not answer cost their second only once."""
    barrier = threading.Barrier(3, timeout=30)
    for number, name in enumerate(("a", "b", "c"), 1):
        put_vm(layout, make_vm(name, number))
        host.run_vm(layout, uuid_of(name))
    guest.ask = barrier.wait
    assert [(shown.name, shown.state) for shown in rows(node, node.store.entries())] == [
        (name, "running") for name in ("a", "b", "c")
    ]


def test_of_a_copied_vm_the_copy_says_so(node: Node, layout: Layout) -> None:
    put_vm(layout, make_vm("web", 1))
    put_vm(layout, make_vm("web", 1, uuid=str(uuid_of("copy"))), links=False)
    problems = {shown.uuid: shown.problem for shown in rows(node, node.store.entries())}
    assert problems[str(uuid_of("web"))] is None
    assert f"belongs to VM {uuid_of('web')}: use its uuid to name it" in (problems[str(uuid_of("copy"))] or "")


def test_a_folder_that_is_a_link_is_broken(node: Node, layout: Layout, tmp_path: Path) -> None:
    put_vm(layout, make_vm()).rename(tmp_path / "elsewhere")
    layout.vm(uuid_of("web")).symlink_to(tmp_path / "elsewhere")
    (shown,) = rows(node, node.store.entries())
    assert (shown.state, shown.name) == ("broken", "web")
    assert "is a link to elsewhere" in (shown.problem or "")


def test_a_vm_whose_runtime_folder_went_still_runs(running: None, node: Node, layout: Layout) -> None:
    shutil.rmtree(layout.run(uuid_of("web")))
    shown = row(node, node.store.find("web"))
    assert (shown.state, shown.ssh) == ("running", "127.0.0.1:22001")


def test_of_two_that_clash_where_neither_is_linked_no_owner_is_made_up(node: Node, layout: Layout) -> None:
    put_vm(layout, make_vm("web", 1), links=False)
    put_vm(layout, make_vm("web", 1, uuid=str(uuid_of("copy"))), links=False)
    problems = [shown.problem or "" for shown in rows(node, node.store.entries())]
    assert any(problems)
    assert not any("None" in problem for problem in problems)


_PIN = {"flake": "git+file:///f", "locked": "git+file:///f?rev=abc", "attribute": "x y", "revision": "abc"}


@pytest.mark.parametrize(
    ("origin", "now", "outdated"),
    [
        ({"image": "own", "store_path": "/nix/store/1-own"}, "/nix/store/1-own", False),
        ({"image": "own", "store_path": "/nix/store/1-own"}, "/nix/store/2-own", True),
        ({"image": "own", "store_path": "/nix/store/1-own"}, None, False),
        ({"image": "own"}, "/nix/store/2-own", False),
        ({"store_path": "/nix/store/1-own"}, "/nix/store/2-own", False),
        ({"image": "../image/own", "store_path": "/nix/store/1-own"}, "/nix/store/2-own", False),
    ],
)
def test_a_vm_whose_image_was_built_to_something_else_since_is_outdated(
    origin: dict[str, str], now: str | None, outdated: bool, node: Node, layout: Layout
) -> None:
    put_vm(layout, make_vm(origin={"source": ".#x", **origin}))
    if now:
        layout.image("own").mkdir()
        (layout.image("own") / "result").symlink_to(now)
    assert [one.outdated for one in rows(node, node.store.entries())] == [outdated]
    assert details(node, node.store.find("web"))["outdated"] is outdated


def test_details_tell_how_the_image_is_built_exactly_so_again(node: Node, layout: Layout) -> None:
    put_vm(layout, make_vm(origin={"source": ".#x", "pin": _PIN}))
    found = details(node, node.store.find("web"))
    assert found["rebuild"] == "nix build 'git+file:///f?rev=abc#x y'"
    assert found["origin"]["pin"] == {**_PIN, "dirty": False}
    put_vm(layout, make_vm("db", 2, origin={"source": "x.nix", "derivation": "/nix/store/x.drv"}))
    assert details(node, node.store.find("db"))["rebuild"] == "nix-store --realise /nix/store/x.drv"
    put_vm(layout, make_vm("mail", 3))
    assert "rebuild" not in details(node, node.store.find("mail"))
