"""Whatever is in a VM's folder, the list has all VMs, and verbs of the others do not care."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.hostile import FILES, VALUES, WORDS, changed, json_values, paths_in
from tests.unit.support import FOREIGN, link, make_vm, put_broken, put_vm, snapshot, uuid_of
from virshle.config.paths import Paths
from virshle.errors import ConflictError, NotFoundError
from virshle.store import Store
from virshle.store.change import tidy
from virshle.store.layout import LARGEST, Layout, definition
from virshle.store.read import Problem, read_summary, read_vm

BAD = uuid_of("bad")
DATA: dict[str, Any] = json.loads(make_vm("bad", 9).model_dump_json())
PLACES = paths_in(DATA)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vm")


def _read(folder: Path, text: str) -> None:
    """Broken or whole: nothing else. What the list shows of it can be printed."""
    definition(folder).write_text(text)
    try:
        summary = read_summary(folder, BAD)
    except Problem as problem:
        # No value is in it but one that our own names refuse.
        assert not FOREIGN.search(str(problem)) or "is no " in str(problem), problem
        with pytest.raises(Problem):
            read_vm(folder, BAD)
        return
    repr(vars(summary)).encode()
    "".join(filter(None, (summary.name, summary.template, summary.source, summary.image))).encode()
    assert 0 < summary.id < 2**31
    assert summary.memory <= 2**60
    vm = read_vm(folder, BAD)  # what the list calls whole can be started
    assert not any("\0" in text for text in _texts(vm.model_dump(mode="json")))


def _texts(data: Any) -> Iterator[str]:
    for path in paths_in(data):
        value = data
        for key in path:
            value = value[key]
        if isinstance(value, str):
            yield value


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)) or "all")
def test_no_value_of_a_definition_is_more_than_broken(place: tuple[str | int, ...], folder: Path) -> None:
    for value in VALUES:
        _read(folder, json.dumps(changed(DATA, place, value)))


@given(place=st.sampled_from(PLACES), value=json_values)
def test_nor_is_any_other(place: tuple[str | int, ...], value: Any, folder: Path) -> None:
    _read(folder, json.dumps(changed(DATA, place, value)))


@given(text=st.text())
def test_nor_what_is_no_definition(text: str, folder: Path) -> None:
    _read(folder, text.encode(errors="replace").decode())


@pytest.mark.parametrize("make", FILES.values(), ids=FILES.keys())
def test_whatever_is_in_its_place_it_is_broken_and_no_other(make: Any, store: Store, layout: Layout) -> None:
    put_vm(layout, make_vm())
    path = definition(put_broken(layout, BAD, name="bad"))
    path.unlink()
    make(path)
    good, bad = store.entries()
    assert (good.whole().name, bad.summary) == ("web", None)
    with pytest.raises(ConflictError, match="bad is broken"):
        bad.whole()
    assert store.find("bad").uuid == BAD


def test_of_a_huge_definition_only_a_part_is_read(
    store: Store, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.truncate(definition(put_broken(layout, BAD)), 2**40)
    read: list[int] = []
    real = os.read

    def counted(handle: int, size: int) -> bytes:
        read.append(size)
        return real(handle, size)

    monkeypatch.setattr(os, "read", counted)
    store.entries()
    assert sum(read) <= LARGEST + 2**17


@pytest.mark.parametrize("make", FILES.values(), ids=FILES.keys())
@pytest.mark.parametrize("staged", [f".new-{BAD}", f".del-{BAD}", str(BAD)])
def test_odd_things_among_the_vms_are_no_reason_to_stop(
    staged: str, make: Any, store: Store, layout: Layout, tmp_path: Path
) -> None:
    put_vm(layout, make_vm())
    make(layout.vms / staged)
    left, locks = tidy(store)
    for lock in locks:
        lock.release()
    assert store.find("web").whole().name == "web"
    assert [entry.name for entry in left.entries if entry.summary] == ["web"]


@pytest.mark.parametrize("make", FILES.values(), ids=FILES.keys())
def test_odd_links_name_no_vm(make: Any, store: Store, layout: Layout) -> None:
    put_vm(layout, make_vm())
    for folder in (layout.names, layout.ids):
        make(folder / "odd")
    before = snapshot(layout.vms)
    assert store.find("web").uuid == uuid_of("web")
    assert tidy(store)[0].links.steps == []
    assert snapshot(layout.vms) == before


def test_a_name_that_is_none_is_not_taken_for_one(store: Store, layout: Layout) -> None:
    put_broken(layout, BAD)
    for name in (b"-rf", b"\xff", b"a\x1bb", b"two\nlines", b"12"):
        link(layout.names / os.fsdecode(name), BAD)
    assert store.entries()[0].name == str(BAD)


@given(word=st.text() | st.sampled_from(WORDS))
def test_no_word_finds_what_it_does_not_name(word: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    state = tmp_path_factory.mktemp("s")
    store = Store(Layout(Paths(state, state, state, {})))
    for kind in ("", "name", "id", "uuid"):
        with pytest.raises(NotFoundError):
            store.find(word, kind)


def test_one_whose_lock_is_not_ours_to_take_is_left(
    store: Store, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of somebody else, which nobody but he may open."""
    put_vm(layout, make_vm())
    foreign = layout.vms / f".new-{BAD}"
    foreign.mkdir()
    real = os.open

    def refuse(path: Any, *more: Any) -> int:
        if path == foreign:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *more)

    monkeypatch.setattr(os, "open", refuse)
    left, locks = tidy(store)
    assert (locks, left.folders) == ([], [])
