"""The steps that make and delete VMs. Both commit with one rename: if virshle is killed at any moment, there is either
no VM or a complete one. The next command that holds the registry's lock removes everything else that is left."""

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
    # The undo removes only our own link: another VM may have a link with that name.
    back = ("find", link, "-maxdepth", "0", "-lname", link_target(uuid), "-delete")
    return run(why, "ln", "-sT", link_target(uuid), link, undo=[run(f"free it again ({why})", *back, ok=(0, 1))])


def write_definition(folder: Path, vm: Vm, *, lasting: bool = True) -> Step:
    """Writes vm.json in the present schema, whatever schema it had before."""
    return Write("write its definition", definition(folder), vm.model_dump_json(indent=2) + "\n", lasting=lasting)


def renew_definition(folder: Path, vm: Vm) -> list[Step]:
    """Steps that upgrade a vm.json of an earlier schema. Only commands that change the VM's files anyway use this."""
    written = schema(folder)
    return [write_definition(folder, vm)] if written is not None and written < VERSION else []


def commit(layout: Layout, uuid: UUID) -> Step:
    """From this step on, the VM exists."""
    staged, whole = layout.staged(uuid), layout.vm(uuid)
    # `mv -T` of a missing folder fails and changes nothing.
    back = run("put it back", "mv", "-T", whole, staged, ok=(0, 1))
    return run("commit: the VM is there, whole", "mv", "-T", staged, whole, undo=[back])


def leave(layout: Layout, uuid: UUID) -> list[Step]:
    """The steps that delete a VM, under the registry's lock. After the first step, the VM is gone."""
    gone, lasting = let_go("VM", layout.vm(uuid), layout.leaving(uuid))
    return [gone, _give_back(layout, uuid), lasting]


def leave_link(layout: Layout, uuid: UUID) -> list[Step]:
    """The same for a VM whose folder is a link. The folder at the other end of the link is not touched."""
    link = layout.vm(uuid)
    gone = run("commit: the VM is gone; the folder that its link leads to stays", "rm", "-f", "--", link)
    lasting = run("write to the disk that it is gone", "sync", "--", link.parent)
    return [gone, _give_back(layout, uuid), lasting]


def _give_back(layout: Layout, uuid: UUID) -> Step:
    folders = (layout.names, layout.ids)
    owned = [folder / name for folder in folders for name, owner in links(folder).items() if owner == uuid]
    return run("free its name and number", "rm", "-f", "--", *owned)


def remove(layout: Layout, uuid: UUID) -> list[Step]:
    """Steps that remove the files of a VM that is gone. They may take long, and do not need the registry's lock."""
    return [
        clear("remove its runtime folder", *_runtime(layout, uuid)),
        clear("remove its disks and logs", layout.leaving(uuid)),
    ]


def _runtime(layout: Layout, uuid: UUID) -> list[Path]:
    """The runtime folders that this caller's paths name. The folder that the VM's own link names is not removed: in a
    copy of the state, it would be the runtime folder of the original VM."""
    return [layout.run(uuid), *(folder for folder in layout.former_runs(uuid) if folder.is_dir())]


def let_go(what: str, folder: Path, leaving: Path) -> tuple[Step, Step]:
    """Steps that rename `folder` to `leaving`, beside it, and write this to the disk. After the rename, the VM or image
    is gone. After the second step, it stays gone even after a power cut."""
    return (
        run(f"commit: the {what} is gone", "mv", "-T", folder, leaving),
        run("write to the disk that it is gone", "sync", "--", folder.parent),
    )


def clear(why: str, *folders: Path) -> Step:
    """Removes folders that nothing uses any more. This may take long. File systems that are mounted in them stay."""
    return run(why, "rm", "-rf", "--one-file-system", "--", *folders, timeout=600)


@dataclass(frozen=True)
class Left:
    """What interrupted commands left. `links` is applied under the registry's lock; `folders` takes long."""

    links: Plan
    """Repairs and removes links."""
    free: list[Path]
    """Staging folders that no process works on."""
    folders: list[Plan]
    """Each plan removes a folder of `free`, or half-written files from a VM's folder."""
    entries: list[Entry]
    """All VMs."""
    alone: list[Path]
    """Staging folders that must stay: a process works on them, or a newer virshle made them."""
    astray: Mapping[UUID, Path]
    """VMs whose folder was renamed by hand, and the present folder."""


def tidy(store: Store, runs: Callable[[UUID], bool] = lambda _: False) -> tuple[Left, list[Lock]]:
    """Plans to remove what interrupted commands left, and to repair missing links. The caller holds the registry's
    lock.

    The plans touch only our own staging folders whose lock is free, half-written files in VMs' folders, and links that
    lead to no VM. The locks that were taken are returned. `runs`: true if a process runs a VM, even if its folder has
    another name now. Such a VM keeps its name and number. A VM whose folder was renamed keeps them too.
    """
    entries = store.entries()
    wanted = [*_ours(store.layout), *_half_written(entries)]
    locks = {folder: lock for folder in wanted if (lock := try_lock(folder)) is not None}
    return _left(store, list(locks), entries, runs), list(locks.values())


def look(store: Store, runs: Callable[[UUID], bool] = lambda _: False) -> Left:
    """What `tidy` would do now. Takes no locks and changes nothing."""
    entries = store.entries()
    wanted = [*_ours(store.layout), *_half_written(entries)]
    return _left(store, [folder for folder in wanted if not held(folder)], entries, runs)


def _left(store: Store, free: Sequence[Path], entries: list[Entry], runs: Callable[[UUID], bool]) -> Left:
    """`free`: folders that no process works on."""
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
                yield run(f"free {name!r}, which no VM has", "rm", "-f", "--", folder / name)


def _remove(layout: Layout, path: Path) -> Step:
    """A deleted VM may have been made again, for example by its script. Then its runtime folder is in use and stays."""
    uuid = UUID(path.name[5:])
    runtime = [] if os.path.lexists(layout.vm(uuid)) else _runtime(layout, uuid)
    return clear("remove what an interrupted command left", path, *runtime)


def _half_written(entries: Sequence[Entry]) -> Iterator[Path]:
    """The folders of VMs with half-written files. Broken VMs and VMs of a newer virshle are left out: this virshle does
    not know their files. Folders of other users are left out too."""
    for entry in entries:
        if entry.summary is not None and torn(entry.folder, WRITTEN_LOCKED):
            with suppress(FileNotFoundError):
                if entry.folder.stat().st_uid == os.getuid():
                    yield entry.folder


def _clear(folder: Path) -> Step:
    return run("remove half-written files", "rm", "-f", "--", *torn(folder, WRITTEN_LOCKED))


def _missing(layout: Layout, entries: Sequence[Entry], busy: set[UUID]) -> Iterator[Step]:
    taken: set[Path] = set()
    for entry in entries:
        if entry.summary is None or entry.uuid in busy:
            continue
        for link in (layout.name(entry.name), layout.id(entry.summary.id)):
            if not os.path.lexists(link) and link not in taken:
                taken.add(link)
                yield run(f"repair the missing link of {entry.name}", "ln", "-sT", link_target(entry.uuid), link)
