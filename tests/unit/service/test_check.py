"""Each kind of fault is made by hand, and found; all else is well."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import Guest
from tests.unit.support import link, make_vm, put_broken, put_vm, snapshot, uuid_of
from virshle.errors import ConflictError
from virshle.exec.table import Listed
from virshle.fs import Lock
from virshle.model.version import VERSION
from virshle.service import check as module
from virshle.service.check import Report, check
from virshle.service.create import Order, create
from virshle.service.lifecycle import delete, stop
from virshle.service.node import Node
from virshle.service.seen import Violation
from virshle.service.show import row
from virshle.service.start import start
from virshle.store import Layout
from virshle.store.layout import definition
from virshle.vmm import running
from virshle.vmm.driver import Place

QEMU = "qemu-system-x86_64"


@dataclass
class Scene:
    """VM web runs; db and mail are stopped."""

    node: Node
    host: FakeHost
    table: list[Listed]
    """Processes beside web's own."""
    later: ExitStack

    @property
    def layout(self) -> Layout:
        return self.node.layout

    def place(self, name: str) -> Place:
        return self.node.place(self.node.store.find(name).uuid)

    def runs(self, pid: int, *argv: str | Path) -> None:
        self.table.append(Listed(pid, tuple(map(str, argv))))

    def locked(self, folder: Path) -> None:
        self.later.enter_context(Lock(folder))


@pytest.fixture
def scene(node: Node, guest: Guest, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    table: list[Listed] = []

    def processes() -> Iterator[Listed]:
        own = [Listed(os.getpid(), host.started[-1].argv)] if host.alive else []
        return iter([*own, *table])

    monkeypatch.setattr(running, "processes", processes)
    monkeypatch.setattr(module, "MOMENT", 0)
    for name in ("web", "db", "mail"):
        create(node, Order("t", name))
    start(node, node.store.find("web"))
    start(node, node.store.find("mail"))
    with ExitStack() as later:
        stop(node, node.store.find("mail"))
        start(node, node.store.find("web"))
        yield Scene(node, host, table, later)


def _unchanged(scene: Scene) -> Report:
    before = snapshot(scene.node.paths.state) | snapshot(scene.node.paths.run)
    report = check(scene.node)
    assert snapshot(scene.node.paths.state) | snapshot(scene.node.paths.run) == before
    return report


def test_where_all_is_well_nothing_is_found(scene: Scene) -> None:
    assert _unchanged(scene) == Report([], [], whole=3, running=1)


def test_what_a_guest_has_filled_is_told_with_what_empties_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "longest_log", 2**16)
    place = scene.place("web")
    place.logs.mkdir(exist_ok=True)
    place.console_log.write_bytes(b"x" * 2**17)
    place.ready.write_bytes(b"x" * 2**17)
    with (place.logs / "holes").open("wb") as file:
        file.truncate(2**20)
    (place.logs / "link").symlink_to(place.console_log)
    report = _unchanged(scene)
    assert (report.violations, report.leftovers) == ([], [])
    assert {one.subject for one in report.large} == {"VM web"}
    assert [one.what for one in report.large] == [
        f"{path} uses 128KiB on disk" for path in (place.console_log, place.ready)
    ]
    # Of what it says of itself the start is what counts.
    remedies = [f"truncate -s {kept} -- {path}" for kept, path in ((0, place.console_log), (2**16, place.ready))]
    assert [one.remedy for one in report.large] == remedies


def test_what_is_anothers_is_emptied_as_that_user(scene: Scene, root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who owns the folder could put a link there."""
    monkeypatch.setattr(Place, "longest_log", 2**16)
    place = scene.place("web")
    place.ready.write_bytes(b"x" * 2**17)
    monkeypatch.setattr(os, "getuid", lambda: place.ready.stat().st_uid + 1)
    (large,) = check(scene.node).large
    assert large.remedy.startswith("setpriv --reuid=virshle-vmm ")
    assert large.remedy.endswith(f" -- truncate -s 65536 -- {place.ready}")


def test_a_log_folder_that_is_closed_to_us_hides_nothing_else(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    logs, listed = scene.place("web").logs, Path.iterdir

    def closed(path: Path) -> Iterator[Path]:
        if path == logs:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    logs.mkdir(exist_ok=True)
    _break(scene)
    monkeypatch.setattr(Path, "iterdir", closed)
    assert [one.subject for one in check(scene.node).violations] != []


def test_a_disk_in_a_folder_that_is_closed_to_us_is_not_called_missing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, folder = scene.node.store.find("db"), scene.place("db").folder
    real = os.lstat

    def closed(path: str | Path) -> os.stat_result:
        if str(path).startswith(f"{folder}/disk/"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "lstat", closed)
    said = f"v may not look at {folder}/disk/os: Permission denied"
    mend = f"to make it yours, as root: chown --no-dereference --recursive {os.getuid()} {folder}"
    assert Violation(said, "VM db", mend) in check(scene.node).violations
    assert row(scene.node, entry).problem == f"cannot start: {said}"
    with pytest.raises(ConflictError, match=r"db cannot start: v may not look at .*disk/os: ") as caught:
        start(scene.node, entry)
    assert caught.value.hint == mend


def test_where_nothing_was_made_nothing_is_wrong(node: Node, tmp_path: Path) -> None:
    for folder in node.layout.folders():
        folder.rmdir()
    assert check(node) == Report([], [], whole=0, running=0)


def _break(scene: Scene) -> None:
    definition(scene.place("db").folder).write_text("{")


def _lose(scene: Scene) -> None:
    definition(scene.place("db").folder).unlink()


def _newer(scene: Scene) -> None:
    file = definition(scene.place("db").folder)
    file.write_text(file.read_text().replace(f'"version": {VERSION}', f'"version": {VERSION + 1}'))


def _copy(scene: Scene) -> None:
    put_vm(scene.layout, make_vm("db", 9), links=False)
    link(scene.layout.id(9), uuid_of("db"))


def _same_number(scene: Scene) -> None:
    number = scene.node.store.find("db").whole().id
    put_vm(scene.layout, make_vm("other", number), links=False)
    link(scene.layout.name("other"), uuid_of("other"))


def _folder(name: str) -> Callable[[Scene], None]:
    return lambda scene: (scene.layout.vms / name).mkdir()


def _foreign(scene: Scene) -> None:
    scene.layout.name("theirs").symlink_to("/elsewhere")


def _astray(scene: Scene) -> None:
    link(scene.layout.name("alias"), scene.node.store.find("db").uuid)


def _number_astray(scene: Scene) -> None:
    link(scene.layout.id(77), scene.node.store.find("web").uuid)


def _no_disk(scene: Scene) -> None:
    (scene.place("db").folder / "disk" / "data").unlink()


def _no_disk_while_it_runs(scene: Scene) -> None:
    (scene.place("web").folder / "disk" / "os").unlink()


def _folder_for_a_disk(scene: Scene) -> None:
    _no_disk(scene)
    (scene.place("db").folder / "disk" / "data").mkdir()


def _disk_elsewhere(scene: Scene) -> None:
    disk = scene.place("db").folder / "disk" / "data"
    disk.rename(scene.node.paths.config.parent / "away")
    disk.symlink_to(scene.node.paths.config.parent / "away")


def _small_disk(scene: Scene) -> None:
    os.truncate(scene.place("db").folder / "disk" / "data", 2**21 - 1)


def _hard_link(scene: Scene) -> None:
    disk = scene.place("db").folder / "disk" / "os"
    disk.unlink()
    disk.hardlink_to(scene.place("mail").folder / "disk" / "os")


def _no_kernel(scene: Scene) -> None:
    (put_vm(scene.layout, make_vm("k", 9)) / "boot" / "initrd").unlink()


def _orphaned_sockets(scene: Scene) -> None:
    (scene.layout.runs / "0123456789ab").mkdir()


def _shared_sockets(scene: Scene) -> None:
    one = str(scene.node.store.find("mail").uuid)
    last = "0" if one[-1] != "0" else "1"
    put_vm(scene.layout, make_vm("twin", 9, uuid=one[:-1] + last))


_STATE: dict[str, tuple[Callable[[Scene], object], str, str]] = {
    "a definition that is broken": (_break, "db is broken: vm.json: it is not JSON", "VM db"),
    "a VM that is lost": (_lose, "vm.json cannot be read: No such file", "VM db"),
    "one of a newer virshle": (_newer, f"vm.json has schema {VERSION + 1}, made by a newer virshle", "VM db"),
    "a name twice": (_copy, "its name db belongs to VM ", "VM db"),
    "a number twice": (_same_number, "belongs to VM ", "VM other"),
    "a folder that is no VM's": (_folder("notes"), "belongs to no VM", "vm/notes"),
    "a VM's folder under another name": (
        _folder(uuid_of("x").hex),
        "name of a VM's folder is the uuid",
        uuid_of("x").hex,
    ),
    "a staging folder of nobody": (_folder(".new-x"), "belongs to no VM", ".new-x"),
    "a name that is no link of ours": (_foreign, "not a link to a VM", "name/theirs"),
    "a name that its VM does not have": (_astray, "leads to VM db, but that VM has the name db", "name/alias"),
    "a number that its VM does not have": (_number_astray, "leads to VM web, but that VM has the id 1", "id/77"),
    "a disk that is missing": (_no_disk, "disk/data is missing", "VM db"),
    "a disk of one that runs": (_no_disk_while_it_runs, "disk/os is missing", "VM web"),
    "a disk that is a folder": (_folder_for_a_disk, "is not a regular file", "VM db"),
    "a disk that is elsewhere": (_disk_elsewhere, "is not a regular file in its folder", "VM db"),
    "a disk that lost its end": (_small_disk, "was cut short: it has 2097151 bytes, but the disk has 2097152", "VM db"),
    "one file for two disks": (_hard_link, "is the same file as ", "VM mail"),
    "no kernel": (_no_kernel, "boot/initrd is missing", "VM k"),
    "sockets of nobody": (_orphaned_sockets, "of no VM", "vm/0123456789ab"),
    "sockets of two": (_shared_sockets, "of 2 VMs", "vm/"),
}


@pytest.mark.parametrize(("make", "what", "subject"), _STATE.values(), ids=_STATE.keys())
def test_a_fault_of_the_state_is_found(make: Callable[[Scene], object], what: str, subject: str, scene: Scene) -> None:
    make(scene)
    report = _unchanged(scene)
    (one,) = report.violations
    assert what in one.what
    assert subject in one.subject
    assert one.remedy
    assert report.leftovers == []


def test_what_a_mount_brings_with_it_is_none(scene: Scene) -> None:
    _folder("lost+found")(scene)
    assert check(scene.node).violations == []


def _abandoned(kind: str) -> Callable[[Scene], object]:
    def make(scene: Scene) -> None:
        (scene.layout.vms / f".{kind}-{uuid_of('x')}").mkdir()
        link(scene.layout.name("x"), uuid_of("x"))
        scene.layout.run(uuid_of("x")).mkdir(parents=True)

    return make


def _unlinked(scene: Scene) -> None:
    scene.layout.name("db").unlink()


def _dangling(scene: Scene) -> None:
    link(scene.layout.id(77), uuid_of("x"))


def _half_written(scene: Scene) -> None:
    (scene.place("web").folder / ".launch.json.abcdefgh").write_text("{")


_LEFT: dict[str, tuple[Callable[[Scene], object], int]] = {
    "of a create": (_abandoned("new"), 2),
    "of a delete": (_abandoned("del"), 2),
    "a missing name": (_unlinked, 1),
    "a number of nobody": (_dangling, 1),
    "of a write": (_half_written, 1),
}


@pytest.mark.parametrize(("make", "count"), _LEFT.values(), ids=_LEFT.keys())
def test_what_the_next_command_cleans_is_left_over(make: Callable[[Scene], object], count: int, scene: Scene) -> None:
    make(scene)
    report = _unchanged(scene)
    assert report.violations == []
    assert len(report.leftovers) == count
    assert {one.remedy for one in report.leftovers} == {"the next `v create` or `v delete` does this"}
    delete(scene.node, scene.node.store.find("mail"))
    assert check(scene.node) == Report([], [], whole=2, running=1)


@pytest.mark.parametrize("kind", ["new", "del"])
def test_a_vm_that_comes_or_goes_is_nobodys_fault(kind: str, scene: Scene) -> None:
    _abandoned(kind)(scene)
    scene.locked(scene.layout.vms / f".{kind}-{uuid_of('x')}")
    assert _unchanged(scene) == Report([], [], whole=3, running=1)


def test_what_a_newer_virshle_left_is_told_and_stays(scene: Scene) -> None:
    _abandoned("new")(scene)
    staged = scene.layout.staged(uuid_of("x"))
    definition(staged).write_text(json.dumps({"version": VERSION + 1}))
    delete(scene.node, scene.node.store.find("mail"))
    report = _unchanged(scene)
    assert report.violations == []
    (one,) = report.leftovers
    assert "a newer virshle" in one.what
    assert f"rm -rf {staged}" in one.remedy
    assert scene.layout.name("x").is_symlink()
    assert scene.layout.run(uuid_of("x")).is_dir()


def test_a_remedy_can_be_pasted_whatever_the_folders_are_called(scene: Scene) -> None:
    odd = scene.layout.runs / "a; touch x"
    odd.mkdir()
    (one,) = check(scene.node).violations
    assert shlex.split(one.remedy) == ["rm", "-rf", str(odd)]


def test_one_file_for_two_disks_is_not_parted_while_its_vm_runs(scene: Scene) -> None:
    disk = scene.place("web").folder / "disk/os"
    disk.unlink()
    disk.hardlink_to(scene.place("db").folder / "disk/os")
    (one,) = check(scene.node).violations
    assert one.remedy.startswith("v stop web && cp ") == (one.subject == "VM web")


@pytest.mark.parametrize("kind", ["new", "del"])
def test_an_image_that_an_interrupted_command_left_is_told(kind: str, scene: Scene) -> None:
    folder = scene.layout.images / f".{kind}-debian"
    folder.mkdir(parents=True)
    (one,) = _unchanged(scene).leftovers
    assert one.what == f"{folder} was left by an interrupted command"
    assert one.remedy == "v image gc removes it"
    scene.locked(folder)
    assert _unchanged(scene) == Report([], [], whole=3, running=1)


def test_what_a_command_is_in_the_middle_of_is_no_fault(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is gone at the second look; what is there at both is told."""
    _folder("notes")(scene)
    _break(scene)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        (scene.layout.vms / "notes").rmdir()

    monkeypatch.setattr(time, "sleep", sleep)
    assert [one.subject for one in check(scene.node).violations] == ["VM db"]
    assert len(slept) == 1


def test_a_thousand_vms_are_looked_through(layout: Layout, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "processes", lambda: iter([]))
    monkeypatch.setattr(module, "MOMENT", 0)
    for number in range(1, 1001):
        put_vm(layout, make_vm(f"vm-{number}", number))
    put_broken(layout, uuid_of("bad"), name="bad")
    began = time.monotonic()
    report = check(node)
    assert time.monotonic() - began < 60  # two looks; a bound that only what is quadratic exceeds
    assert (report.whole, len(report.violations)) == (1000, 1)
