from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.support import link, make_vm, put_vm, uuid_of
from virshle.errors import ConfigError, NotFoundError
from virshle.fs import Lock, try_lock
from virshle.service.node import Node
from virshle.service.template import check_config, template_rows
from virshle.store import Layout


def test_missing_folders_are_made_private_and_are_never_undone(node: Node, layout: Layout, host: FakeHost) -> None:
    layout.keys.rmdir()
    with pytest.raises(KeyError), node.apply():
        node.folders()
        raise KeyError
    assert layout.keys.stat().st_mode & 0o777 == 0o700
    assert host.calls == [("mkdir", "-p", "-m", "0700", str(layout.keys))]


def test_the_registry_is_locked_while_it_is_worked_on(node: Node, layout: Layout) -> None:
    with node.registry():
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
    with pytest.raises(ConfigError) as caught:
        check_config(node)
    assert "1 problem: `v create` would fail" in caught.value.message
    assert caught.value.details[0].startswith("template 'lan': net 'main' is of type tap")


def _left(layout: Layout, name: str) -> Path:
    folder = layout.staged(uuid_of(name))
    (folder / "disk").mkdir(parents=True)
    return folder


def test_what_was_left_is_removed_when_the_registry_is_free_again(node: Node, layout: Layout, host: FakeHost) -> None:
    """It may take long, and others wait for the registry."""
    left = [_left(layout, name) for name in ("a", "b")]
    link(layout.name("gone"), uuid_of("a"))
    seen: list[tuple[bool, bool]] = []

    def look(argv: tuple[str, ...]) -> None:
        if argv[:2] == ("rm", "-rf"):
            registry = try_lock(layout.vms)
            seen.append((registry is not None, try_lock(Path(argv[-2])) is None))
            if registry is not None:
                registry.release()

    host.before = look
    with node.registry():
        assert all(folder.exists() for folder in left)
        assert not layout.name("gone").is_symlink()
        assert all(try_lock(folder) is None for folder in left)
    assert seen == [(True, True)] * 2  # the registry is free, and what is removed is locked
    assert list(layout.vms.iterdir()) == []


def test_what_was_left_and_cannot_be_removed_stops_nothing(
    node: Node, layout: Layout, host: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    left = [_left(layout, name) for name in ("a", "b")]

    def refuse(argv: tuple[str, ...]) -> None:
        if argv[:2] == ("rm", "-rf") and str(left[0]) in argv:
            raise PermissionError(1, "Operation not permitted")

    host.before = refuse
    with node.registry():
        pass
    assert [folder.exists() for folder in left] == [True, False]
    assert (
        f"`rm` cannot be run: Operation not permitted: rm -rf --one-file-system -- {left[0]}" in capsys.readouterr().err
    )
    lock = try_lock(left[0])
    assert lock is not None
    lock.release()


def test_what_was_left_is_removed_also_where_the_work_fails(node: Node, layout: Layout, host: FakeHost) -> None:
    left = _left(layout, "a")
    with pytest.raises(KeyError), node.registry():
        raise KeyError
    assert not left.exists()
    lock = try_lock(layout.vms)
    assert lock is not None
    lock.release()


def test_a_lock_is_held_until_the_end_and_never_in_a_dry_run(node: Node, layout: Layout) -> None:
    with node.apply() as apply:
        node.hold(apply, layout.images, shared=True)
        node.hold(apply, layout.images, shared=True)
        assert try_lock(layout.images) is None
    dry = replace(node, dry_run=lambda _: None)
    with dry.apply() as apply:
        dry.hold(apply, layout.images)
        with Lock(layout.images, patience=0):
            pass


def test_a_vm_runs_as_long_as_its_record_is_held_whatever_becomes_of_its_runtime_folder(
    node: Node, layout: Layout, host: FakeHost
) -> None:
    put_vm(layout, make_vm())
    run = host.run_vm(layout, uuid_of("web"))
    run.rmdir()
    assert node.process(uuid_of("web")) is not None
    host.die()
    assert node.process(uuid_of("web")) is None


def test_the_built_in_template_that_cannot_be_used_says_so_and_warns_nobody(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virshle.image.plan._SOURCE", tmp_path)
    rows = {row["name"]: row for row in template_rows(node)}
    assert "virshle's own flake builds" in rows["nixos"]["problem"]
    with pytest.raises(ConfigError) as caught:
        check_config(node)
    assert not any("nixos" in line for line in caught.value.details)
