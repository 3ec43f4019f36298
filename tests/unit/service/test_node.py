from __future__ import annotations

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.support import make_vm, put_vm, uuid_of
from virshle.errors import NotFoundError
from virshle.fs import Lock, try_lock
from virshle.service.node import Node
from virshle.service.template import config_warnings, template_rows
from virshle.store import Layout


def test_missing_folders_are_made_private_and_are_never_undone(node: Node, layout: Layout, host: FakeHost) -> None:
    layout.keys.rmdir()
    with pytest.raises(KeyError), node.apply() as apply:
        node.folders(apply)
        raise KeyError
    assert layout.keys.stat().st_mode & 0o777 == 0o700
    assert host.calls == [("mkdir", "-p", "-m", "0700", str(layout.keys))]


def test_the_registry_is_locked_while_it_is_worked_on(node: Node, layout: Layout) -> None:
    with node.apply() as apply, node.registry(apply):
        assert try_lock(layout.vms) is None
    lock = try_lock(layout.vms)
    assert lock is not None
    lock.release()


def test_a_vm_is_locked_until_the_end_of_the_context(node: Node, layout: Layout) -> None:
    folder = put_vm(layout, make_vm())
    with node.apply() as apply, node.locked(node.store.find("web"), apply) as entry:
        assert entry.name == "web"
        assert try_lock(folder) is None
    lock = try_lock(folder)
    assert lock is not None
    lock.release()


def test_a_vm_is_read_again_once_it_is_locked(node: Node, layout: Layout) -> None:
    folder = put_vm(layout, make_vm())
    seen = node.store.find("web")
    (folder / "vm.json").write_text(make_vm(vcpu=7).model_dump_json())
    with node.apply() as apply, node.locked(seen, apply) as entry:
        assert entry.whole().vcpu == 7


def test_a_vm_that_was_renamed_away_while_it_was_waited_for_is_gone(
    node: Node, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put_vm(layout, make_vm())
    seen = node.store.find("web")
    # It was open, and is another's when it is locked at last.
    monkeypatch.setattr(Lock, "_take", lambda *_: folder.rename(layout.leaving(uuid_of("web"))))
    with (
        pytest.raises(NotFoundError, match="was deleted in the meantime"),
        node.apply() as apply,
        node.locked(seen, apply),
    ):
        pytest.fail("it was worked on")


def test_templates_are_listed_with_what_keeps_them_from_being_used(node: Node) -> None:
    rows = {row["name"]: row for row in template_rows(node)}
    assert rows["t"]["disks"].startswith("os=/")
    assert rows["t"]["disks"].endswith(", data=empty")
    assert (rows["t"]["nets"], rows["t"]["memory"], rows["t"]["problem"]) == ("main=user", 2**27, None)
    assert "of type tap" in rows["lan"]["problem"]
    assert len(config_warnings(node)) == 1
    assert "template 'lan'" in config_warnings(node)[0]
