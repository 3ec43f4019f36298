"""Who calls, from where: another environment than that in which the VM was started, and sockets that are gone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import Guest
from tests.unit.support import make_vm, put_vm
from virshle.errors import ConfigError, HostError
from virshle.service.create import Order, create
from virshle.service.lifecycle import delete, stop
from virshle.service.node import Entry, Node
from virshle.service.script import script
from virshle.service.show import details, rows
from virshle.service.start import start
from virshle.store.layout import run_link
from virshle.vmm.qemu import socket

pytestmark = pytest.mark.usefixtures("guest")


def _elsewhere(node: Node, run: Path, *former: Path) -> Node:
    """The same state, as a caller with another environment has it."""
    return Node(replace(node.paths, run=run, former=former))


def test_a_vm_is_found_from_another_environment(web: Entry, node: Node, tmp_path: Path) -> None:
    start(node, web)
    cron = _elsewhere(node, tmp_path / "r")
    assert cron.place(web.uuid) == node.place(web.uuid)
    assert details(cron, web)["run"]["folder"] == str(node.place(web.uuid).run)
    stop(cron, web)
    # Its next run is where this caller has such things.
    start(cron, web)
    assert node.place(web.uuid).run == tmp_path / "r/vm" / web.uuid.hex[:12]


def test_the_link_is_read_by_whoever_reads_the_script_too(web: Entry, node: Node) -> None:
    assert f"ln -sfnT -- {node.place(web.uuid).run} {run_link(web.folder)}\n" in script(node, web)


def test_one_that_an_older_virshle_started_is_found_in_the_session(web: Entry, node: Node, tmp_path: Path) -> None:
    start(node, web)
    run_link(web.folder).unlink()
    new = _elsewhere(node, tmp_path / "r", tmp_path / "none", node.paths.run)
    assert new.place(web.uuid) == node.place(web.uuid)
    delete(new, web, force=True)
    assert not node.layout.run(web.uuid).exists()


@pytest.mark.parametrize("target", ["/etc", "vm/{short}", "/x/vm/0123456789ab", "/x/{short}"])
def test_a_link_to_what_is_no_runtime_folder_of_its_is_not_followed(target: str, node: Node) -> None:
    vm = make_vm()
    folder = put_vm(node.layout, vm)
    run_link(folder).symlink_to(target.format(short=vm.uuid.hex[:12]))
    assert node.place(vm.uuid).run == node.layout.run(vm.uuid)


def test_what_a_copy_of_the_state_says_of_the_original_is_not_removed(web: Entry, node: Node, tmp_path: Path) -> None:
    start(node, web)
    shutil.copytree(node.paths.state, tmp_path / "copy", symlinks=True)
    copied = Node(replace(node.paths, state=tmp_path / "copy", run=tmp_path / "r"))
    delete(copied, copied.store.find("web"))
    assert node.place(web.uuid).run.is_dir()


def test_sockets_that_cannot_be_stop_only_what_makes_them(web: Entry, node: Node, tmp_path: Path) -> None:
    start(node, web)
    create(node, Order("t", "db"))
    long = _elsewhere(node, tmp_path / ("x" * 100))
    for act in (lambda: create(long, Order("t", "new")), lambda: start(long, long.store.find("db"))):
        with pytest.raises(ConfigError, match="too long for sockets") as caught:
            act()
        assert "VIRSHLE_RUN_DIR" in caught.value.hint
    assert [row.state for row in rows(long, long.store.entries())] == ["running", "stopped"]
    assert details(long, web)["state"] == "running"
    assert start(long, web).already
    stop(long, web)
    for name in ("web", "db"):
        delete(long, long.store.find(name))


def _lose_sockets(web: Entry, node: Node, guest: Guest) -> None:
    def gone() -> None:
        raise HostError(f"QEMU cannot be asked: {socket(node.place(web.uuid))}: No such file or directory")

    guest.ask = gone


def test_where_its_sockets_are_gone_its_guest_is_asked_by_ssh(
    web: Entry, node: Node, host: FakeHost, guest: Guest, capsys: pytest.CaptureFixture[str]
) -> None:
    start(node, web)
    _lose_sockets(web, node, guest)

    def entered(command: str) -> int:
        if "poweroff" not in command:
            return 0
        host.die()
        return 255  # its ssh server went first

    host.entered = entered
    assert stop(node, web, force=True).how == "by ssh"
    assert host.kills == []
    assert "its guest is asked by ssh to power off" in capsys.readouterr().err


def test_and_left_running_where_that_cannot_be_either(web: Entry, node: Node, host: FakeHost, guest: Guest) -> None:
    start(node, web)
    _lose_sockets(web, node, guest)
    host.entered = lambda command: 255
    with pytest.raises(HostError, match="web did not power off and is left running: QEMU cannot be asked") as caught:
        stop(node, web)
    assert "v stop --force web" in caught.value.hint
    assert "ssh failed too: `ssh` failed with exit code 255" in caught.value.details
    assert not any("poweroff" in argv[-1] for argv in host.calls)
    assert stop(node, web, force=True).how == "by force"


@pytest.mark.usefixtures("host")
def test_a_state_that_is_no_folder_is_never_taken_for_an_empty_one(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    odd = Node(replace(node.paths, state=tmp_path / "file"))
    for act in (odd.store.entries, odd.folders, lambda: create(odd, Order("t", "web"))):
        with pytest.raises(ConfigError, match="file is not a folder") as caught:
            act()
        assert "VIRSHLE_STATE_DIR" in caught.value.hint
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.usefixtures("root")
def test_what_roots_script_makes_may_be_passed_by_its_vms_user_and_read_by_nobody(web: Entry, node: Node) -> None:
    assert "\numask 066\n" in script(node, web)
