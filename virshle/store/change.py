"""The steps by which VMs come and go. Both commit by one rename, so that a kill at any moment leaves either
no VM or a whole one; what it leaves beside that is tidied by the next command that holds the registry's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from virshle.fs import Lock, held, torn, try_lock
from virshle.model.version import VERSION
from virshle.plan import Plan, Step, Write, run
from virshle.store.astray import astray, is_staging
from virshle.store.layout import WRITTEN_LOCKED, Layout, definition, link_target
from virshle.store.read import Entry, Store, links, made_by_newer, schema

if TYPE_CHECKING:
    from virshle.model.vm import Vm


def stage(layout: Layout, uuid: UUID) -> Step:
    """Makes the staging folder, under the registry's lock."""
    staged = layout.staged(uuid)
    return run(
        "make the folder in which it is staged",
        "mkdir", "-p", staged / "disk", staged / "boot", staged / "log",
        undo=[clear("remove the staging folder", staged)],
    )  # fmt: skip


def claim(layout: Layout, uuid: UUID, name: str, number: int) -> list[Step]:
    """Takes the name and the number, under the registry's lock."""
    return [
        _link("take the name", layout.name(name), uuid),
        _link("take the number", layout.id(number), uuid),
    ]


def _link(why: str, link: Path, uuid: UUID) -> Step:
    # Only ours is taken back: another VM's link of that name is not removed.
    back = ("find", link, "-maxdepth", "0", "-lname", link_target(uuid), "-delete")
    return run(why, "ln", "-sT", link_target(uuid), link, undo=[run(f"give it back ({why})", *back, ok=(0, 1))])


def write_definition(folder: Path, vm: Vm, *, lasting: bool = True) -> Step:
    """In the schema of now, whatever it was read from."""
    return Write("write its definition", definition(folder), vm.model_dump_json(indent=2) + "\n", lasting=lasting)


def renew_definition(folder: Path, vm: Vm) -> list[Step]:
    """Where it is of an earlier schema; for who changes the VM's files anyway."""
    written = schema(folder)
    return [write_definition(folder, vm)] if written is not None and written < VERSION else []


def commit(layout: Layout, uuid: UUID) -> Step:
    """The staged VM is there from here on."""
    staged, whole = layout.staged(uuid), layout.vm(uuid)
    # `mv -T` of a folder that is not there fails, and changes nothing.
    back = run("put it back", "mv", "-T", whole, staged, ok=(0, 1))
    return run("commit: the VM is there, whole", "mv", "-T", staged, whole, undo=[back])


def leave(layout: Layout, uuid: UUID) -> list[Step]:
    """The VM is gone with the first of these steps; under the registry's lock."""
    gone, lasting = let_go("VM", layout.vm(uuid), layout.leaving(uuid))
    return [gone, _give_back(layout, uuid), lasting]


def leave_link(layout: Layout, uuid: UUID) -> list[Step]:
    """The same for one whose folder is a link to elsewhere: what is there stays as it is."""
    link = layout.vm(uuid)
    gone = run("commit: the VM is no more; what its link leads to stays", "rm", "-f", "--", link)
    lasting = run("write to the disk that it is gone", "sync", "--", link.parent)
    return [gone, _give_back(layout, uuid), lasting]


def _give_back(layout: Layout, uuid: UUID) -> Step:
    folders = (layout.names, layout.ids)
    owned = [folder / name for folder in folders for name, owner in links(folder).items() if owner == uuid]
    return run("give back its name and number", "rm", "-f", "--", *owned)


def remove(layout: Layout, uuid: UUID) -> list[Step]:
    """What it leaves, which may take long: the registry's lock is not needed."""
    return [
        clear("remove its runtime folder", *_runtime(layout, uuid)),
        clear("remove its disks and logs", layout.leaving(uuid)),
    ]


def _runtime(layout: Layout, uuid: UUID) -> list[Path]:
    """Where it is for this caller. What a VM's link says is not removed: of a copy of the state, it would be the
    original's."""
    return [layout.run(uuid), *(folder for folder in layout.former_runs(uuid) if folder.is_dir())]


def let_go(what: str, folder: Path, leaving: Path) -> tuple[Step, Step]:
    """`folder` becomes `leaving`, beside it, and what was in it is no more; which then outlasts a cut of the power."""
    return (
        run(f"commit: the {what} is no more", "mv", "-T", folder, leaving),
        run("write to the disk that it is gone", "sync", "--", folder.parent),
    )


def clear(why: str, *folders: Path) -> Step:
    """Removes what is nobody's any more, which may take long; whatever is mounted in it stays."""
    return run(why, "rm", "-rf", "--one-file-system", "--", *folders, timeout=600)


@dataclass(frozen=True)
class Left:
    """What interrupted commands left. The links are mended under the registry's lock; folders take long."""

    links: Plan
    free: list[Path]
    """Staging folders that nobody works on."""
    folders: list[Plan]
    """What removes each of them, and from a VM's folder what was written there by half."""
    entries: list[Entry]
    """Every VM there is."""
    alone: list[Path]
    """Staging folders that are left alone: somebody works on them, or a newer virshle made them."""
    astray: Mapping[UUID, Path]
    """VMs whose folder was renamed by hand, and where it is."""


def tidy(store: Store, runs: Callable[[UUID], bool] = lambda _: False) -> tuple[Left, list[Lock]]:
    """For the holder of the registry's lock: cleans what an interrupted command left, and repairs missing links.

    Touches only our own staging folders whose lock is free (the locks taken are returned) and links to no VM. `runs`:
    whether a process runs a VM, whose folder may not be where it belongs. Such a VM keeps its name and number, and so
    does one whose folder was renamed.
    """
    entries = store.entries()
    wanted = [*_ours(store.layout), *_half_written(entries)]
    locks = {folder: lock for folder in wanted if (lock := try_lock(folder)) is not None}
    return _left(store, list(locks), entries, runs), list(locks.values())


def look(store: Store, runs: Callable[[UUID], bool] = lambda _: False) -> Left:
    """What `tidy` would do now, for who only wants to know."""
    entries = store.entries()
    wanted = [*_ours(store.layout), *_half_written(entries)]
    return _left(store, [folder for folder in wanted if not held(folder)], entries, runs)


def _left(store: Store, free: Sequence[Path], entries: list[Entry], runs: Callable[[UUID], bool]) -> Left:
    """`free`: folders that nobody works on."""
    layout = store.layout
    staging = [folder for folder in free if folder.name.startswith(".")]
    alone = [folder for folder in _interrupted(layout) if folder not in free]
    busy = {UUID(folder.name[5:]) for folder in alone}
    renamed = astray(layout, {entry.folder for entry in entries if entry.summary})
    dangling = _dangling(layout, lambda uuid: uuid in busy or uuid in renamed or runs(uuid))
    links = Plan("tidy", [*dangling, *_missing(layout, entries, busy)])
    folders = [_remove(layout, folder) if folder in staging else _clear(folder) for folder in free]
    return Left(links, staging, [Plan("tidy", [step]) for step in folders], entries, alone, renamed)


def _ours(layout: Layout) -> Iterator[Path]:
    return (folder for folder in _interrupted(layout) if not made_by_newer(folder))


def _interrupted(layout: Layout) -> Iterator[Path]:
    for path in sorted(layout.vms.iterdir()) if layout.vms.is_dir() else ():
        if is_staging(path):
            yield path


def _dangling(layout: Layout, needed: Callable[[UUID], bool]) -> Iterator[Step]:
    for folder in (layout.names, layout.ids):
        for name, uuid in links(folder).items():
            if not os.path.lexists(layout.vm(uuid)) and not needed(uuid):
                yield run(f"give back {name!r}, which no VM has", "rm", "-f", "--", folder / name)


def _remove(layout: Layout, path: Path) -> Step:
    """A VM that was deleted may have been made again, by its script say, and use its runtime folder."""
    uuid = UUID(path.name[5:])
    runtime = [] if os.path.lexists(layout.vm(uuid)) else _runtime(layout, uuid)
    return clear("remove what an interrupted command left", path, *runtime)


def _half_written(entries: Sequence[Entry]) -> Iterator[Path]:
    """The folders of VMs in which a file is that was written by half. Of a broken one, or a newer virshle's, nobody
    knows what is what; and in somebody else's nothing is done."""
    for entry in entries:
        if entry.summary is not None and torn(entry.folder, WRITTEN_LOCKED):
            with suppress(FileNotFoundError):
                if entry.folder.stat().st_uid == os.getuid():
                    yield entry.folder


def _clear(folder: Path) -> Step:
    return run("remove what was written by half", "rm", "-f", "--", *torn(folder, WRITTEN_LOCKED))


def _missing(layout: Layout, entries: Sequence[Entry], busy: set[UUID]) -> Iterator[Step]:
    taken: set[Path] = set()
    for entry in entries:
        if entry.summary is None or entry.uuid in busy:
            continue
        for link in (layout.name(entry.name), layout.id(entry.summary.id)):
            if not os.path.lexists(link) and link not in taken:
                taken.add(link)
                yield run(f"repair the missing link of {entry.name}", "ln", "-sT", link_target(entry.uuid), link)
