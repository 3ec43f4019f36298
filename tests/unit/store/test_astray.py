"""VMs whose folder was renamed by hand are known by what is in it, and keep their name and number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from tests.unit.support import link, make_vm, put_vm, uuid_of
from virshle.errors import NotFoundError
from virshle.store import Layout, Store
from virshle.store.astray import astray
from virshle.store.change import look, tidy
from virshle.store.layout import definition

WEB = uuid_of("web")


@pytest.fixture
def folder(layout: Layout) -> Path:
    """Of VM web."""
    return put_vm(layout, make_vm())


def _named(name: str) -> Callable[[Path], Path]:
    return lambda folder: folder.rename(folder.with_name(name))


def _without_definition(folder: Path) -> Path:
    definition(folder).unlink()
    return folder.rename(folder.with_name(f"old-{str(WEB).upper()}-1"))


@pytest.mark.parametrize(
    "rename",
    [_named("web"), _named(f"{WEB}.bak"), _named(WEB.hex), _named(str(uuid_of("another"))), _without_definition],
)
def test_it_is_known_and_its_links_stay(
    rename: Callable[[Path], Path], folder: Path, store: Store, layout: Layout
) -> None:
    now = rename(folder)
    left = look(store)
    assert left.astray == {WEB: now}
    assert left.links.steps == tidy(store)[0].links.steps == []
    with pytest.raises(NotFoundError, match="was renamed") as missed:
        store.find("web")
    assert missed.value.hint == f"move it back: mv -T {now} {folder}"


def _copy(layout: Layout, folder: Path) -> None:
    (layout.vms / "copy").mkdir()
    definition(layout.vms / "copy").write_text(definition(folder).read_text())


def _link(layout: Layout, folder: Path) -> None:
    (layout.vms / "web").symlink_to(folder.name)


def _staged(layout: Layout, folder: Path) -> None:
    folder.rename(layout.staged(WEB))


def _file(layout: Layout, folder: Path) -> None:
    (layout.vms / f"{uuid_of('x')}.txt").touch()


def _nothing(layout: Layout, folder: Path) -> None:
    (layout.vms / "notes").mkdir()
    definition(layout.vms / "notes").write_text('{"uuid": 7}')


@pytest.mark.parametrize("make", [_copy, _link, _staged, _file, _nothing])
def test_nothing_else_is(make: Callable[[Layout, Path], None], folder: Path, layout: Layout) -> None:
    make(layout, folder)
    assert astray(layout, {folder}) == {}


def test_a_vm_that_runs_without_its_folder_keeps_its_links(store: Store, layout: Layout) -> None:
    link(layout.name("web"), WEB)
    asked: list[UUID] = []

    def runs(uuid: UUID) -> bool:
        asked.append(uuid)
        return True

    assert tidy(store, runs)[0].links.steps == []
    assert asked == [WEB]
    assert len(tidy(store)[0].links.steps) == 1


def test_where_no_link_dangles_no_process_is_looked_at(folder: Path, store: Store) -> None:
    def never(_: UUID) -> bool:
        raise AssertionError

    assert tidy(store, never)[0].links.steps == []
