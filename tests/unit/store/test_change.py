from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.support import link, make_vm, put_broken, put_vm, snapshot, uuid_of
from virshle.config.paths import Paths
from virshle.errors import HostError
from virshle.fs import Lock, torn, try_lock, write_atomic
from virshle.plan import Apply, Plan
from virshle.store import Layout, Store
from virshle.store.change import Left, claim, commit, leave, look, remove, stage, tidy
from virshle.store.layout import WRITTEN_LOCKED

UUID = uuid_of("web")


@pytest.fixture
def locks() -> Iterator[list[Lock]]:
    taken: list[Lock] = []
    yield taken
    for lock in taken:
        lock.release()


def _tidy(store: Store, locks: list[Lock]) -> list[str]:
    """Plans and applies it; what was done."""
    left, taken = tidy(store)
    locks += taken
    with Apply() as apply:
        for plan in (left.links, *left.folders):
            apply(plan)
    return _steps(left)


def _steps(left: Left) -> list[str]:
    return [step.shell() for plan in (left.links, *left.folders) for step in plan.steps]


def test_claim_makes_the_staging_folder_and_takes_name_and_number(layout: Layout, host: FakeHost) -> None:
    with Apply() as apply:
        apply(Plan("web", [stage(layout, UUID), *claim(layout, UUID, "web", 3)]))
    assert sorted(path.name for path in layout.staged(UUID).iterdir()) == ["boot", "disk", "log"]
    assert str(layout.name("web").readlink()) == str(layout.id(3).readlink()) == f"../vm/{UUID}"
    assert host.calls[1] == ("ln", "-sT", f"../vm/{UUID}", str(layout.name("web")))


def test_a_name_that_is_taken_is_left_to_whom_it_belongs(layout: Layout, host: FakeHost) -> None:
    link(layout.name("web"), uuid_of("other"))
    before = snapshot(layout.paths.state)
    with pytest.raises(HostError, match="`ln` failed"), Apply() as apply:
        apply(Plan("web", [stage(layout, UUID), *claim(layout, UUID, "web", 3)]))
    assert snapshot(layout.paths.state) == before


def test_commit_is_one_rename_that_can_be_put_back(layout: Layout, host: FakeHost) -> None:
    layout.staged(UUID).mkdir()
    with pytest.raises(HostError), Apply() as apply:
        apply(Plan("web", [commit(layout, UUID)]))
        assert layout.vm(UUID).is_dir()
        raise HostError("a later one failed")
    assert layout.staged(UUID).is_dir()
    assert not layout.vm(UUID).exists()
    assert host.calls[0] == ("mv", "-T", str(layout.staged(UUID)), str(layout.vm(UUID)))


def test_a_vm_leaves_by_one_rename_and_then_all_of_it_is_let_go_of(layout: Layout, host: FakeHost) -> None:
    put_vm(layout, make_vm("web", 3))
    put_vm(layout, make_vm("db", 4))
    link(layout.name("old-name-of-web"), UUID)
    layout.run(UUID).mkdir(parents=True)
    with Apply() as apply:
        apply(Plan("web", leave(layout, UUID)))
        assert layout.run(UUID).exists()
        assert layout.leaving(UUID).exists()
        assert [path.name for path in layout.names.iterdir()] == ["db"]
        apply(Plan("web", remove(layout, UUID)))
    assert host.calls[0] == ("mv", "-T", str(layout.vm(UUID)), str(layout.leaving(UUID)))
    assert [path.name for path in layout.vms.iterdir()] == [str(uuid_of("db"))]
    assert [path.name for path in layout.names.iterdir()] == ["db"]
    assert [path.name for path in layout.ids.iterdir()] == ["4"]
    assert not layout.run(UUID).exists()


def test_remove_stays_on_its_file_system(layout: Layout) -> None:
    steps = remove(layout, UUID)
    assert steps
    assert all(step.shell().startswith("rm -rf --one-file-system -- ") for step in steps)


@pytest.mark.parametrize("prefix", [".new-", ".del-"])
def test_what_an_interrupted_command_left_is_cleaned(
    prefix: str, store: Store, layout: Layout, host: FakeHost, locks: list[Lock]
) -> None:
    left = layout.vms / f"{prefix}{UUID}"
    (left / "disk").mkdir(parents=True)
    link(layout.name("web"), UUID)
    link(layout.id(3), UUID)
    layout.run(UUID).mkdir(parents=True)
    _tidy(store, locks)
    assert snapshot(layout.paths.state) == dict.fromkeys(("config", "id", "image", "key", "name", "vm"), "folder")
    assert not layout.run(UUID).exists()


def test_the_sockets_of_a_vm_that_was_made_again_are_its_own(
    store: Store, layout: Layout, host: FakeHost, locks: list[Lock]
) -> None:
    (layout.vms / f".del-{UUID}").mkdir(parents=True)
    put_vm(layout, make_vm())
    layout.run(UUID).mkdir(parents=True)
    _tidy(store, locks)
    assert not (layout.vms / f".del-{UUID}").exists()
    assert layout.run(UUID).is_dir()


def test_what_somebody_still_works_on_is_left(store: Store, layout: Layout, host: FakeHost, locks: list[Lock]) -> None:
    layout.staged(UUID).mkdir()
    link(layout.name("web"), UUID)
    link(layout.id(3), UUID)
    with Lock(layout.staged(UUID)):
        assert _tidy(store, locks) == []
    assert layout.name("web").is_symlink()
    assert layout.staged(UUID).is_dir()


PARTS = (".vm.json.a1b2_c3d", ".launch.json.00000000", ".vmm.sh.zzzzzzzz")
OTHERS = (".vm.json.backup", ".vm.json.A1B2C3D4", ".notes.a1b2c3d4", "vm.json.a1b2c3d4", ".known_hosts.a1b2c3d4")


def test_what_was_written_by_half_is_cleaned_and_nothing_else(
    store: Store, layout: Layout, host: FakeHost, locks: list[Lock]
) -> None:
    folder = put_vm(layout, make_vm())
    before = snapshot(folder)
    for name in (*PARTS, *OTHERS):
        (folder / name).write_text("{")
    assert look(store).free == look(store).alone == []
    assert [plan.steps[0].why for plan in look(store).folders] == ["remove half-written files"]
    _tidy(store, locks)
    assert [lock.folder for lock in locks] == [folder]
    assert snapshot(folder).keys() == {*before, *OTHERS}


def test_what_is_being_written_is_left(store: Store, layout: Layout, host: FakeHost, locks: list[Lock]) -> None:
    folder = put_vm(layout, make_vm())
    (folder / PARTS[0]).write_text("{")
    broken = put_broken(layout, uuid_of("bad"))
    (broken / PARTS[0]).write_text("{")
    with Lock(folder):
        assert look(store).folders == []
        _tidy(store, locks)
    assert (folder / PARTS[0]).exists()
    assert (broken / PARTS[0]).exists()


def test_in_somebody_elses_folder_nothing_is_done(
    store: Store, layout: Layout, host: FakeHost, locks: list[Lock], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put_vm(layout, make_vm())
    (folder / PARTS[0]).write_text("{")
    (folder / PARTS[1]).mkdir()
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert look(store).folders == []
    monkeypatch.undo()
    # And of ours only files.
    assert torn(folder, WRITTEN_LOCKED) == [folder / PARTS[0]]


def test_what_an_interrupted_write_leaves_is_what_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", lambda *_: signal.raise_signal(signal.SIGINT))
        patch.setattr(Path, "unlink", lambda *_: None)  # killed, it does nothing more
        write_atomic(folder / "vm.json", "{")
    assert torn(folder, WRITTEN_LOCKED) == list(folder.iterdir()) != []


def test_what_is_cleaned_is_locked_meanwhile(store: Store, layout: Layout, locks: list[Lock]) -> None:
    layout.staged(UUID).mkdir()
    layout.leaving(uuid_of("db")).mkdir()
    left, taken = tidy(store)
    locks += taken
    assert [lock.folder for lock in taken] == [layout.leaving(uuid_of("db")), layout.staged(UUID)]
    assert all(try_lock(lock.folder) is None for lock in taken)
    assert list(left.links.steps) == []
    # One plan for each lock, in their order: whoever removes a folder holds its lock.
    for plan, lock in zip(left.folders, taken, strict=True):
        assert str(lock.folder) in plan.steps[0].shell()


def test_links_are_mended_apart_from_folders_which_take_long(store: Store, layout: Layout, locks: list[Lock]) -> None:
    layout.staged(UUID).mkdir()
    link(layout.name("web"), UUID)
    left, taken = tidy(store)
    locks += taken
    assert [step.shell() for step in left.links.steps] == [f"rm -f -- {layout.name('web')}"]
    assert [len(plan.steps) for plan in left.folders] == [1]


def _foreign_staging_file(layout: Layout) -> None:
    layout.staged(UUID).write_text("not a folder")


def _foreign_staging_link(layout: Layout) -> None:
    elsewhere = layout.paths.state / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("")
    layout.staged(UUID).symlink_to(elsewhere)


def _foreign_names(layout: Layout) -> None:
    for name in (
        ".new-",
        ".new-x",
        f".new-{str(UUID).upper()}",
        f".old-{UUID}",
        f"new-{UUID}",
        "backup",
        f"{UUID}.bak",
    ):
        (layout.vms / name).mkdir()
        (layout.vms / name / "precious").write_text("")


def _foreign_things_among_links(layout: Layout) -> None:
    (layout.names / "readme").write_text("precious")
    (layout.names / "folder").mkdir()
    (layout.names / "away").symlink_to("/nowhere/at/all")


def _broken_vm(layout: Layout) -> None:
    put_broken(layout, UUID, name="web")
    link(layout.id(3), UUID)


def _empty_vm(layout: Layout) -> None:
    layout.vm(UUID).mkdir()
    link(layout.name("web"), UUID)


@pytest.mark.parametrize(
    "make",
    [
        _foreign_staging_file,
        _foreign_staging_link,
        _foreign_names,
        _foreign_things_among_links,
        _broken_vm,
        _empty_vm,
    ],
)
def test_what_is_not_ours_or_not_understood_is_left(
    make: object, store: Store, layout: Layout, host: FakeHost, locks: list[Lock]
) -> None:
    make(layout)  # type: ignore[operator]
    before = snapshot(layout.paths.state)
    assert _tidy(store, locks) == []
    assert snapshot(layout.paths.state) == before


def test_a_link_to_elsewhere_is_left_though_it_ends_in_a_uuid(
    store: Store, layout: Layout, host: FakeHost, locks: list[Lock]
) -> None:
    layout.name("mine").symlink_to(f"/backup/{uuid_of('gone')}")
    assert _tidy(store, locks) == []
    assert layout.name("mine").is_symlink()


def test_a_link_of_no_vm_is_given_back(store: Store, layout: Layout, host: FakeHost, locks: list[Lock]) -> None:
    put_vm(layout, make_vm())
    link(layout.name("gone"), uuid_of("gone"))
    link(layout.id(9), uuid_of("gone"))
    _tidy(store, locks)
    assert [path.name for path in layout.names.iterdir()] == ["web"]
    assert [path.name for path in layout.ids.iterdir()] == ["1"]


def test_missing_links_are_repaired(store: Store, layout: Layout, host: FakeHost, locks: list[Lock]) -> None:
    put_vm(layout, make_vm("web", 3), links=False)
    _tidy(store, locks)
    assert str(layout.name("web").readlink()) == str(layout.id(3).readlink()) == f"../vm/{UUID}"
    assert _tidy(store, locks) == []


def test_of_two_vms_of_one_name_one_gets_the_link(
    store: Store, layout: Layout, host: FakeHost, locks: list[Lock]
) -> None:
    put_vm(layout, make_vm("web", 1), links=False)
    put_vm(layout, make_vm("web", 1, uuid=str(uuid_of("copy"))), links=False)
    _tidy(store, locks)
    assert _tidy(store, locks) == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_foreign_thing_in_place_of_a_link_stops_nothing(
    kind: str, store: Store, layout: Layout, host: FakeHost, locks: list[Lock]
) -> None:
    put_vm(layout, make_vm(), links=False)
    link(layout.id(1), UUID)
    layout.name("web").mkdir() if kind == "folder" else layout.name("web").write_text("")
    _tidy(store, locks)


def test_tidying_a_tidy_store_does_nothing(store: Store, layout: Layout, locks: list[Lock]) -> None:
    put_vm(layout, make_vm("web", 1))
    put_vm(layout, make_vm("db", 2))
    assert _steps(tidy(store)[0]) == []


def test_tidying_where_nothing_was_made_does_nothing(paths: Paths, tmp_path: Path) -> None:
    assert not os.path.lexists(tmp_path / "state")
    assert _steps(tidy(Store(Layout(paths)))[0]) == []
