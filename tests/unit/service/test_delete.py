from __future__ import annotations

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.support import make_vm, put_broken, put_vm, snapshot, uuid_of
from virshle.errors import ConflictError
from virshle.fs import try_lock
from virshle.service.create import Order, create
from virshle.service.lifecycle import delete
from virshle.service.node import Entry, Node
from virshle.service.start import start
from virshle.store import Layout

pytestmark = pytest.mark.usefixtures("guest")

BAD = uuid_of("bad")


def test_a_delete_removes_all_of_it_and_nothing_else(web: Entry, node: Node, layout: Layout) -> None:
    put_vm(layout, make_vm("db", 7))
    assert delete(node, web) == "web"
    assert [entry.name for entry in node.store.entries()] == ["db"]
    assert [path.name for path in layout.names.iterdir()] == ["db"]
    assert [path.name for path in layout.ids.iterdir()] == ["7"]


def test_a_running_vm_is_not_deleted(web: Entry, node: Node, host: FakeHost) -> None:
    start(node, web)
    before = snapshot(web.folder)
    with pytest.raises(ConflictError, match="web is running, and nothing was deleted") as caught:
        delete(node, web)
    assert "v stop web" in caught.value.hint
    assert snapshot(web.folder) == before
    assert host.alive


def test_force_deletes_it_and_cuts_its_power_first(web: Entry, node: Node, host: FakeHost) -> None:
    start(node, web)
    host.calls.clear()
    delete(node, web, force=True)
    assert host.calls[0] in host.kills
    assert host.alive == []
    assert not web.folder.exists()


def test_a_broken_vm_is_deleted_only_by_force(node: Node, layout: Layout) -> None:
    folder = put_broken(layout, BAD, name="bad")
    entry = node.store.find("bad")
    with pytest.raises(ConflictError, match="bad is broken"):
        delete(node, entry)
    assert folder.exists()
    delete(node, entry, force=True)
    assert not folder.exists()
    assert list(layout.names.iterdir()) == []


def test_force_cuts_the_power_of_a_broken_vm_too(node: Node, layout: Layout, host: FakeHost) -> None:
    put_broken(layout, BAD, name="bad")
    host.run_vm(layout, BAD)
    delete(node, node.store.find("bad"), force=True)
    assert host.alive == []
    assert not layout.vm(BAD).exists()


def test_a_delete_that_is_interrupted_is_finished_by_the_next_change(
    web: Entry, node: Node, layout: Layout, host: FakeHost
) -> None:
    def interrupt(argv: tuple[str, ...]) -> None:
        if argv[:2] == ("rm", "-f"):
            raise KeyboardInterrupt

    host.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        delete(node, web)
    assert node.store.entries() == []
    host.before = lambda argv: None
    create(node, Order("t", "web"))
    assert [path.name for path in layout.vms.iterdir()] == [str(node.store.find("web").uuid)]


def test_the_registry_is_free_while_disks_are_removed(web: Entry, node: Node, layout: Layout, host: FakeHost) -> None:
    free: dict[str, bool] = {}

    def look(argv: tuple[str, ...]) -> None:
        lock = try_lock(layout.vms)
        free[" ".join(argv[:2])] = lock is not None
        if lock is not None:
            lock.release()

    host.before = look
    delete(node, web)
    assert free == {"mv -T": False, "rm -f": False, "sync --": False, "rm -rf": True}
