"""What virshles of other times wrote: older is read, and upgraded when it is next written; newer is left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support import KEY, link, make_vm, put_vm, snapshot, uuid_of
from virshle.errors import ConflictError
from virshle.model.version import UPGRADES, VERSION
from virshle.model.vm import Vm
from virshle.plan import Apply, Plan
from virshle.store import Layout, Store, read
from virshle.store.change import look, renew_definition, tidy
from virshle.store.layout import definition
from virshle.store.read import made_by_newer, schema


def _put(layout: Layout, vm: Vm, **changes: Any) -> Path:
    """Of another version."""
    folder = put_vm(layout, vm)
    data = json.loads(definition(folder).read_text()) | changes
    definition(folder).write_text(json.dumps({key: value for key, value in data.items() if value is not None}))
    return folder


@pytest.fixture
def old(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A VM of a schema in which the memory was called `ram`."""
    monkeypatch.setitem(UPGRADES, 0, lambda data: {("memory" if key == "ram" else key): data[key] for key in data})
    return _put(layout, make_vm(account=uuid_of("me")), version=0, memory=None, ram=2**29)


def test_an_old_one_is_listed_and_used_as_any_and_stays_as_it_is(old: Path, store: Store) -> None:
    before = snapshot(old)
    (entry,) = store.entries()
    assert (entry.problem, entry.summary and entry.summary.memory) == ("", 2**29)
    assert entry.whole() == make_vm(account=uuid_of("me"))
    assert store.find("web").uuid == entry.uuid
    assert snapshot(old) == before


def test_an_old_one_is_listed_without_what_checks_every_part(
    old: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Vm:
        raise AssertionError

    monkeypatch.setattr(read, "_parse", refuse)
    assert store.entries()[0].name == "web"


def test_when_it_is_written_it_is_of_this_schema(old: Path, store: Store) -> None:
    vm = store.find("web").whole()
    with Apply() as apply:
        apply(Plan("web", renew_definition(old, vm)))
        apply.commit()
    assert json.loads(definition(old).read_text())["version"] == VERSION
    assert store.find("web").whole() == vm
    assert renew_definition(old, vm) == []


def test_an_old_one_that_is_not_what_it_says_is_broken(old: Path, store: Store) -> None:
    text = definition(old).read_text()
    definition(old).write_text(text.replace('"ram"', '"rams"'))
    assert "vm.json: memory: missing" in store.entries()[0].problem
    definition(old).write_text(text.replace('"version": 0', '"version": -1'))
    assert store.entries()[0].problem == "vm.json: it has schema -1, and no virshle ever wrote that schema"


def test_without_a_version_it_is_of_the_first_schema(layout: Layout, store: Store) -> None:
    folder = _put(layout, make_vm(), version=None)
    assert store.find("web").whole() == make_vm()
    assert schema(folder) == 1


def test_the_first_schema_is_one_without_a_pin(layout: Layout, store: Store) -> None:
    folder = _put(layout, make_vm(), version=1)
    assert '"pin"' in definition(folder).read_text()
    data = json.loads(definition(folder).read_text())
    del data["origin"]["pin"]
    definition(folder).write_text(json.dumps(data))
    (entry,) = store.entries()
    assert (entry.problem, entry.whole()) == ("", make_vm())
    assert len(renew_definition(folder, entry.whole())) == 1


def test_what_the_second_schema_was_is_read_as_it_is(layout: Layout, store: Store) -> None:
    """As that virshle wrote it."""
    folder = put_vm(layout, make_vm())
    text = Path(__file__).with_name("vm_v2.json").read_text()
    definition(folder).write_text(text)
    (entry,) = store.entries()
    wanted = make_vm(account=uuid_of("me"), users=[{"name": "ada", "authorized_keys": [KEY]}])
    assert (entry.problem, entry.whole()) == ("", wanted)
    assert definition(folder).read_text() == text


def test_a_newer_one_is_refused_with_what_to_do(layout: Layout, store: Store) -> None:
    folder = _put(layout, make_vm(), version=VERSION + 1, novel=True)
    before = snapshot(layout.paths.state)
    (entry,) = store.entries()
    assert entry.name == "web"
    with pytest.raises(
        ConflictError, match=r"web is broken: vm\.json has schema \d+, made by a newer virshle"
    ) as caught:
        entry.whole()
    assert caught.value.hint == (
        f"use the virshle that wrote {definition(folder)}, or a newer one; nothing was changed"
    )
    assert look(store).links.steps == []
    assert snapshot(layout.paths.state) == before


@pytest.mark.parametrize("kind", ["new", "del"])
def test_what_a_newer_one_left_is_not_tidied(kind: str, layout: Layout, store: Store) -> None:
    """Nor is the name given back by which it may be found again."""
    uuid = uuid_of("left")
    folder = layout.vms / f".{kind}-{uuid}"
    folder.mkdir()
    link(layout.name("left"), uuid)
    definition(folder).write_text(json.dumps({"version": VERSION + 1}))
    assert made_by_newer(folder)
    for left in (look(store), tidy(store)[0]):
        assert (left.alone, left.folders, left.links.steps) == ([folder], [], [])
    definition(folder).write_text(json.dumps({"version": VERSION}))
    assert not made_by_newer(folder)
    left = look(store)
    assert (left.alone, left.free, len(left.folders), len(left.links.steps)) == ([], [folder], 1, 1)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "2"}', '{"version": null}', "[" * 100_000])
def test_what_does_not_say_is_not_taken_for_newer(text: str, layout: Layout) -> None:
    folder = layout.staged(uuid_of("x"))
    folder.mkdir()
    assert not made_by_newer(folder)
    definition(folder).write_text(text)
    assert schema(folder) is None
    assert not made_by_newer(folder)
