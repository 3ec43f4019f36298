from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support import FOREIGN, make_vm, open_descriptors, put_broken, put_vm, snapshot, uuid_of
from virshle.errors import ConflictError
from virshle.store import Layout, Store
from virshle.store.layout import LARGEST, definition

BAD = uuid_of("bad")


def _json(**changes: Any) -> str:
    return json.dumps(json.loads(make_vm("bad", 9).model_dump_json()) | changes)


def test_where_nothing_was_made_there_are_no_vms(paths: Any) -> None:
    assert Store(Layout(paths)).entries() == []


def test_vms_are_sorted_by_number_and_broken_ones_come_last(store: Store, layout: Layout) -> None:
    put_broken(layout, BAD, name="aaa")
    for name, number in (("web", 10), ("db", 2), ("mail", 1)):
        put_vm(layout, make_vm(name, number))
    assert [entry.name for entry in store.entries()] == ["mail", "db", "web", "aaa"]


def test_what_is_no_vm_is_not_shown(store: Store, layout: Layout) -> None:
    put_vm(layout, make_vm())
    for name in ("notes", f".new-{BAD}", f".del-{BAD}", str(BAD).upper(), BAD.hex, f"{{{BAD}}}", "lost+found"):
        (layout.vms / name).mkdir()
    assert [entry.name for entry in store.entries()] == ["web"]


_BROKEN: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "it is not JSON"),
    "not JSON": ("{", "it is not JSON"),
    "not UTF-8": (b"\xff\xfe", "it is not JSON"),
    "no object": ("[]", "vm.json: must be an object"),
    "nested too deeply": ("[" * 100_000, "it is not JSON"),
    "a key is missing": ("{}", "vm.json: uuid: missing"),
    "a wrong type": (_json(vcpu="two"), "vm.json: vcpu: "),
    "a wrong type inside": (_json(disks=[{"name": "os", "file": "disk/os", "size": "x"}]), "vm.json: disks.0.size: "),
    "an unknown key": (_json(colour="red"), "vm.json: colour: unknown key"),
    "a path that leaves": (_json(disks=[{"name": "o", "file": "../o", "size": 1}]), "leaves the VM's folder"),
    "newer": (_json(version=4, novel=True), "vm.json has schema 4, made by a newer virshle; this one reads up to 3"),
    "another's": (_json(uuid=str(uuid_of("other"))), f"vm.json belongs to another VM: {uuid_of('other')}"),
    "huge": (" " * (LARGEST + 1), "too large"),
}


@pytest.mark.parametrize("file", ["disk/other", "os.raw", "disk/a b\n"])
def test_one_that_was_edited_is_as_good_as_any(file: str, store: Store, layout: Layout) -> None:
    """Its disk is not where virshle itself would have put it, nor is there all that it would have written."""
    data = json.loads(_json(disks=[{"name": "os", "file": file, "size": 1}], origin={"source": "by hand"}))
    for key in ("account", "ready", "nets"):
        del data[key]
    put_broken(layout, BAD, json.dumps(data))
    (entry,) = store.entries()
    assert entry.whole().disks[0].file == file
    assert entry.summary is not None
    assert (entry.summary.id, entry.summary.image, entry.summary.source) == (9, None, "by hand")


@pytest.mark.parametrize(("text", "reason"), _BROKEN.values(), ids=_BROKEN.keys())
def test_a_broken_definition_is_shown_with_the_reason(
    text: str | bytes, reason: str, store: Store, layout: Layout
) -> None:
    folder = put_broken(layout, BAD, name="bad")
    definition(folder).write_bytes(text.encode() if isinstance(text, str) else text)
    _check_broken(store, layout, reason)


def _elsewhere(path: Path) -> None:
    path.with_name("other").write_text(_json())
    path.symlink_to("other")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)
        server.bind(path.name)


_ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "a symlink": (_elsewhere, "symbolic link"),
    "a dangling symlink": (lambda path: path.symlink_to("/nowhere"), "symbolic link"),
    "a pipe": (os.mkfifo, "it is not JSON"),
    "a folder": (Path.mkdir, "Is a directory"),
    "a socket": (_socket, "No such device"),
}


@pytest.mark.parametrize(("make", "reason"), _ODD.values(), ids=_ODD.keys())
def test_an_odd_file_is_shown_with_the_reason(
    make: Callable[[Path], object],
    reason: str,
    store: Store,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = definition(put_broken(layout, BAD, name="bad"))
    path.unlink()
    make(path)
    _check_broken(store, layout, reason)


def _check_broken(store: Store, layout: Layout, reason: str) -> None:
    put_vm(layout, make_vm())
    folder = layout.vm(BAD)
    before = sorted(path.name for path in folder.iterdir())
    good, bad = store.entries()
    assert (good.name, good.whole().name) == ("web", "web")
    assert (bad.summary, bad.name) == (None, "bad")
    assert reason in bad.problem
    assert bad.problem.startswith("vm.json")
    with pytest.raises(ConflictError, match=r"bad is broken: vm\.json") as caught:
        bad.whole()
    assert str(folder) in caught.value.hint
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="SKIPPED LOUDLY: root may read every file")
def test_an_unreadable_definition_is_shown_with_the_reason(store: Store, layout: Layout) -> None:
    definition(put_broken(layout, BAD, name="bad")).chmod(0)
    _check_broken(store, layout, "Permission denied")


def test_reading_leaves_no_descriptor_open(store: Store, layout: Layout) -> None:
    definition(put_broken(layout, BAD)).unlink()
    definition(layout.vm(BAD)).mkdir()
    before = open_descriptors()
    store.entries()
    store.entries()
    assert open_descriptors() == before


def test_a_broken_one_without_a_name_is_known_by_its_uuid(store: Store, layout: Layout) -> None:
    put_broken(layout, BAD)
    assert store.entries()[0].name == str(BAD)


def test_a_file_in_place_of_a_folder_is_broken(store: Store, layout: Layout) -> None:
    layout.vm(BAD).write_text("")
    assert "Not a directory" in store.entries()[0].problem


def test_reading_changes_nothing(store: Store, layout: Layout) -> None:
    put_vm(layout, make_vm(), links=False)
    put_broken(layout, BAD)
    (layout.vms / f".new-{uuid_of('x')}").mkdir()
    layout.name("stale").symlink_to("../vm/gone")
    before = snapshot(layout.paths.state)
    store.entries()
    store.find("web")
    assert snapshot(layout.paths.state) == before


def test_a_folder_that_was_moved_here_is_that_vm(store: Store, layout: Layout, tmp_path: Path) -> None:
    vm = make_vm("moved", 3)
    folder = put_vm(layout, vm, links=False)
    folder.rename(tmp_path / "away")
    assert store.entries() == []
    (tmp_path / "away").rename(folder)
    assert store.find("moved").whole() == vm


@pytest.mark.parametrize("text", [text for text, _ in _BROKEN.values()], ids=_BROKEN.keys())
def test_the_reason_is_in_words_of_our_own(text: str | bytes, store: Store, layout: Layout) -> None:
    definition(put_broken(layout, BAD, name="bad")).write_bytes(text.encode() if isinstance(text, str) else text)
    assert not FOREIGN.search(store.entries()[0].problem)
