"""VMs that are not whole: broken while they run, behind a link, without a file. What is shown, and what verbs do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import Guest
from tests.unit.support import make_vm, put_vm, snapshot
from virshle.errors import ConflictError
from virshle.exec.table import Listed
from virshle.service import show
from virshle.service.lifecycle import delete, may_be_stopped, pause, resume, stop
from virshle.service.node import Entry, Node
from virshle.service.start import start
from virshle.store import Layout
from virshle.store.layout import definition
from virshle.vmm import running

pytestmark = pytest.mark.usefixtures("guest")


@pytest.fixture
def broken(web: Entry, node: Node, guest: Guest, layout: Layout) -> Entry:
    """Runs, and its vm.json was broken since."""
    start(node, web)
    definition(web.folder).write_text("{")
    return node.store.find("web")


def test_a_broken_vm_that_runs_is_shown_and_can_be_stopped(broken: Entry, node: Node, guest: Guest) -> None:
    shown = show.row(node, broken)
    assert (shown.name, shown.state) == ("web", "running")
    assert (shown.problem or "").startswith("broken, and it runs: vm.json: it is not JSON")
    run = show.details(node, broken)["run"]
    assert (run["hypervisor"], run["pid"]) == ("qemu", os.getpid())
    assert may_be_stopped(node, broken)
    assert stop(node, broken).how == "gracefully"
    assert "system_powerdown" in guest.asked
    assert show.row(node, broken).state == "broken"
    assert not may_be_stopped(node, broken)
    with pytest.raises(ConflictError, match="web is broken"):
        stop(node, broken)


def test_it_can_be_paused_and_resumed(broken: Entry, node: Node) -> None:
    assert pause(node, broken)
    assert show.row(node, broken).state == "paused"
    assert resume(node, broken)


def test_it_is_not_started_again(broken: Entry, node: Node, host: FakeHost) -> None:
    host.calls.clear()
    with pytest.raises(ConflictError, match="web is broken"):
        start(node, broken)
    assert host.calls == []


@pytest.fixture
def linked(web: Entry, node: Node, tmp_path: Path) -> Path:
    """Where its folder is, to which there is a link in its place."""
    folder = web.folder.rename(tmp_path / "elsewhere")
    web.folder.symlink_to(folder)
    return folder


def test_of_a_vm_whose_folder_is_a_link_the_link_alone_is_deleted(
    linked: Path, web: Entry, node: Node, layout: Layout
) -> None:
    before = snapshot(linked)
    with pytest.raises(ConflictError, match="link to elsewhere") as refused:
        delete(node, node.store.find("web"))
    assert "`v delete --force web` removes only the link" in refused.value.hint
    with pytest.raises(ConflictError, match="link to elsewhere"):
        start(node, node.store.find("web"))
    assert delete(node, node.store.find("web"), force=True) == "web"
    assert snapshot(linked) == before
    assert [list(folder.iterdir()) for folder in (layout.vms, layout.names, layout.ids)] == [[], [], []]


def test_so_it_is_where_that_leads_nowhere(linked: Path, node: Node, layout: Layout, tmp_path: Path) -> None:
    linked.rename(tmp_path / "gone")
    assert show.row(node, node.store.find("web")).state == "broken"
    delete(node, node.store.find("web"), force=True)
    assert list(layout.vms.iterdir()) == []


def test_one_that_runs_is_stopped_first(web: Entry, node: Node, guest: Guest, tmp_path: Path, host: FakeHost) -> None:
    start(node, web)
    web.folder.symlink_to(web.folder.rename(tmp_path / "elsewhere"))
    entry = node.store.find("web")
    assert show.row(node, entry).state == "running"
    with pytest.raises(ConflictError, match="web runs") as refused:
        delete(node, entry, force=True)
    assert refused.value.hint == "stop it first: v stop web"
    assert len(host.alive) == 1
    assert stop(node, entry).how == "gracefully"
    delete(node, node.store.find("web"), force=True)


def test_nor_is_it_taken_for_one_that_does_not_run_where_the_link_leads_nowhere(
    web: Entry, node: Node, tmp_path: Path, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(node, web)
    monkeypatch.setattr(running, "processes", lambda: iter([Listed(os.getpid(), host.started[-1].argv)]))
    web.folder.symlink_to(web.folder.rename(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").rename(tmp_path / "gone")
    sockets = node.place(web.uuid).run
    with pytest.raises(ConflictError, match="web runs"):
        delete(node, node.store.find("web"), force=True)
    assert web.folder.is_symlink()
    assert sockets.is_dir()


def _no_disk(folder: Path) -> None:
    (folder / "disk/os").unlink()


def _folder_for_a_disk(folder: Path) -> None:
    _no_disk(folder)
    (folder / "disk/os").mkdir()


def _link_for_a_disk(folder: Path) -> None:
    (folder / "disk/os").symlink_to((folder / "disk/os").rename(folder.parent.parent / "away"))


def _disks_elsewhere(folder: Path) -> None:
    (folder / "disk").symlink_to((folder / "disk").rename(folder.parent.parent / "away"))


def _short_disk(folder: Path) -> None:
    os.truncate(folder / "disk/os", 512)


def _no_initrd(folder: Path) -> None:
    (folder / "boot/initrd").unlink()


@pytest.mark.parametrize(
    "lose", [_no_disk, _folder_for_a_disk, _link_for_a_disk, _disks_elsewhere, _short_disk, _no_initrd]
)
def test_the_list_says_what_start_would_say_of_its_files(
    lose: Callable[[Path], None], node: Node, layout: Layout, host: FakeHost
) -> None:
    folder = put_vm(layout, make_vm())
    assert show.row(node, node.store.find("web")).problem is None
    lose(folder)
    (shown,) = show.rows(node, node.store.entries())
    with pytest.raises(ConflictError, match="web cannot start") as refused:
        start(node, node.store.find("web"))
    assert shown.state == "stopped"
    # Of a folder that is a link start names the folder, the list a file in it.
    told = refused.value.message.removeprefix("web ")
    assert (shown.problem == told) != (lose is _disks_elsewhere)
    assert (shown.problem or "").startswith("cannot start: ")
