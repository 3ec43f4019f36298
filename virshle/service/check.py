"""Checks that every VM is complete, and that everything in the state folder belongs to a VM. It reads, and changes
nothing.

    report = check(node)
    assert not report.violations

What an interrupted command left is a leftover, not a violation: the next command that changes VMs removes it.
"""

from __future__ import annotations

import os
import shlex
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from uuid import UUID

from virshle.exec.table import open_still
from virshle.fs import START, explained, held
from virshle.model.names import run_name
from virshle.model.units import format_size
from virshle.service.check_runs import lock_faults, process_faults, run_faults, unit_faults
from virshle.service.files import closed, cut_short, missing
from virshle.service.lost import may_run, shut_down
from virshle.service.node import Node
from virshle.service.seen import Seen, SeenVm, Violation, see
from virshle.service.start import growing, odd_files, short_disks
from virshle.store.astray import move_back, strays
from virshle.store.layout import definition
from virshle.store.read import link_owner, made_by_newer, to_own, unfinished_images
from virshle.vmm.account import as_user, vmm_user
from virshle.vmm.place import Place

MOMENT = 0.2
"""Seconds between the two looks."""


@dataclass(frozen=True)
class Report:
    violations: list[Violation]
    leftovers: list[Violation]
    whole: int
    """The number of VMs that can be used."""
    running: int
    large: list[Violation] = field(default_factory=list)
    """Large files that a guest has filled. No command makes them smaller while the guest runs."""


def check(node: Node) -> Report:
    """Raises ConfigError, HostError if the state cannot be read."""
    report = _look(node)
    if not report.violations and not report.leftovers:
        return report
    # A command that is running now can look like a fault. A real fault is still there at the second look.
    time.sleep(MOMENT)
    again = _look(node)
    return Report(
        [one for one in again.violations if one in report.violations],
        [one for one in again.leftovers if one in report.leftovers],
        again.whole,
        again.running,
        again.large,
    )


def _look(node: Node) -> Report:
    with explained("look through the state"):
        seen = see(node)
        return Report(
            violations=[violation for faults in _FAULTS for violation in faults(seen)],
            leftovers=list(_leftovers(seen)),
            whole=sum(vm.vm is not None for vm in seen.vms),
            running=sum(vm.process is not None for vm in seen.vms),
            large=list(_large(seen)),
        )


def _leftovers(seen: Seen) -> Iterator[Violation]:
    left = seen.left
    for step in [*left.links.steps, *(step for plan in left.folders for step in plan.steps)]:
        yield Violation(f"{step.why}: {step.shell()}", "leftover", "the next `v create` or `v delete` does this")
    for folder in left.alone:
        if made_by_newer(folder) and not held(folder):
            what = f"{folder} was left by an interrupted command of a newer virshle"
            remedy = "the next `v create` or `v delete` of that virshle removes it"
            if not may_run(run_name(folder.name[5:]), seen.processes):
                remedy += f"; or: rm -rf {quote(str(folder))}"
            yield Violation(what, "leftover", remedy)
    for folder in unfinished_images(seen.layout):
        if not held(folder):
            yield Violation(f"{folder} was left by an interrupted command", "leftover", "v image gc removes it")


def _large(seen: Seen) -> Iterator[Violation]:
    """Large logs, and the large file of what a guest says about itself. The VMM appends to its logs, so they may be
    emptied while it runs. Of the other file only the beginning is read, so the rest may be cut."""
    for vm in seen.vms:
        try:
            logs = [] if vm.place.logs.is_symlink() else _listed(vm.place.logs)
        except PermissionError:
            continue  # another user's folder: other checks report it
        for path, kept in (*((log, 0) for log in (*logs, vm.place.terminal_log)), (vm.place.ready, START)):
            status = _status(path)
            if status is not None and stat.S_ISREG(status.st_mode) and status.st_blocks * 512 > Place.longest_log:
                # The owner of the folder could put a link there, so the command runs as that owner.
                who = as_user(vmm_user()) if path.parent.stat().st_uid != os.getuid() else []
                cut = shlex.join([*who, "truncate", "-s", str(kept), "--", str(path)])
                yield Violation(f"{path} uses {format_size(status.st_blocks * 512)} on disk", vm.subject, cut)


def _definitions(seen: Seen) -> Iterator[Violation]:
    """VMs that cannot be used, and VMs that share a name or a number."""
    for vm in seen.vms:
        if vm.broken is not None and vm.process is not None:
            name = vm.entry.name
            remedy = f"`v stop {name}` stops it as it is; then `v start {name}` says how to fix it"
            yield Violation(f"{vm.broken.message}; it is running", vm.subject, remedy)
        elif vm.broken is not None:
            yield Violation(vm.broken.message, vm.subject, vm.broken.hint)
        elif vm.entry.problem:
            file = definition(vm.place.folder)
            yield Violation(vm.entry.problem, vm.subject, f"give it a name and a number of its own in {file}")


def _strays(seen: Seen) -> Iterator[Violation]:
    """Files and folders among the VMs' folders that belong to no VM."""
    homes = {path: uuid for uuid, path in seen.left.astray.items()}
    for path in strays(seen.layout, {vm.place.folder for vm in seen.vms}):
        why = "it belongs to no VM: the name of a VM's folder is the uuid in its vm.json"
        remedy = f"rename it to that uuid, or move it out of {path.parent}"
        if path in homes:
            remedy = move_back(path, seen.layout.vm(homes[path]))
        yield Violation(why, str(path), remedy)


def _runtime(seen: Seen) -> Iterator[Violation]:
    """Runtime folders that belong to no VM, or to two."""
    uuids = {vm.entry.uuid for vm in seen.vms} | {UUID(folder.name[5:]) for folder in seen.staging}
    owners = Counter(seen.layout.run(uuid) for uuid in uuids)
    for path in _listed(seen.layout.runs):
        if path not in owners and (remedy := _empty_folder(seen, path)):
            yield Violation("a runtime folder of no VM", str(path), remedy)
    for path, count in owners.items():
        if count > 1:
            yield Violation(f"the runtime folder of {count} VMs", str(path), "give one of them another uuid")


def _empty_folder(seen: Seen, path: Path) -> str:
    """What to do about a runtime folder of no VM; empty if another check reports it. A folder with the sockets of a
    running VMM must stay: those sockets cannot be made again."""
    if path.name in seen.lost:
        return seen.lost[path.name]
    for process in seen.processes:
        if process.is_vmm and process.run == path.name:
            return shut_down(seen.layout, process)
    for vm in seen.vms:
        if vm.process is not None and not vm.place.run.is_dir():
            return f"if it belongs to {vm.subject}, which runs, move it back: {move_back(path, vm.place.run)}"
    return f"rm -rf {quote(str(path))}"


def _links(seen: Seen) -> Iterator[Violation]:
    """Links of names and numbers that are not links to a VM, or that lead to a VM with another name or number. Links to
    VMs that are gone, and missing links, are leftovers."""
    vms = {vm.entry.uuid: vm for vm in seen.vms}
    for kind, folder in (("name", seen.layout.names), ("id", seen.layout.ids)):
        for path in _listed(folder):
            owner = link_owner(path)
            if owner is None:
                yield Violation("it is not a link to a VM", str(path), f"move it out of {folder}")
            elif owner in vms and (summary := vms[owner].entry.summary) is not None:
                has = str(getattr(summary, kind))
                if has != path.name:
                    why = f"it leads to {vms[owner].subject}, but that VM has the {kind} {has}"
                    yield Violation(why, str(path), f"rm {quote(str(path))}")


def _files(seen: Seen) -> Iterator[Violation]:
    """Files that a VM needs and that are missing or not complete."""
    for vm in seen.vms:
        if vm.vm is None:
            continue
        try:
            odd = set(odd_files(vm.vm, vm.place))
        except PermissionError as error:
            yield Violation(closed(error), vm.subject, f"to make it yours, as root: {to_own(vm.place.folder)}")
            continue
        for path in sorted(odd):
            remedy = _put_back(vm, path)
            yield Violation(f"{missing(path)} in its folder", vm.subject, remedy)
        for path, has, wanted in short_disks(vm.vm, vm.place):
            if path not in odd:
                why = cut_short(path, has, wanted)
                # Not while the guest runs: it would read zeros where it had written data.
                fix = f"to grow it: {growing(path, wanted)}" if vm.process is None else f"first: v stop {vm.entry.name}"
                yield Violation(why, vm.subject, f"the missing part is lost; {fix}")


def _put_back(vm: SeenVm, path: Path) -> str:
    """What to do about a missing file. If it was removed while the VM runs, the VMM still has it (unlink(2))."""
    pid = vm.process.pid if vm.process else None
    held_still = open_still(pid, path) if pid is not None and not os.path.lexists(path) else None
    if held_still is None:
        return "put it back"
    copy = shlex.join(["cp", "--sparse=always", "--", str(held_still), str(path)])
    return (
        f"only its VMM still has the file, and only until the VMM ends; copy it now: v pause {vm.entry.name} && {copy}"
    )


def _shared_files(seen: Seen) -> Iterator[Violation]:
    """Disks that are the same file."""
    owners: dict[tuple[int, int], tuple[SeenVm, Path]] = {}
    for vm in seen.vms:
        for path in vm.disks:
            status = _status(path)
            if status is None:
                continue
            other, first = owners.setdefault((status.st_dev, status.st_ino), (vm, path))
            if first != path or other is not vm:
                why = f"{path} is the same file as {first}, a disk of {other.subject}"
                # While the VM runs, its VMM would go on with the old file, which it has open.
                stop = f"v stop {vm.entry.name} && " if vm.process is not None else ""
                here, own = quote(str(path)), quote(f"{path}.own")
                yield Violation(why, vm.subject, f"{stop}cp --sparse=always {here} {own} && mv {own} {here}")


def _status(path: Path) -> os.stat_result | None:
    """None if the file is missing, or if we may not look at it. Another check reports such disks; a VM may also have
    been deleted just now."""
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


_FAULTS: tuple[Callable[[Seen], Iterator[Violation]], ...] = (
    _definitions,
    _strays,
    _links,
    _files,
    _shared_files,
    _runtime,
    run_faults,
    process_faults,
    unit_faults,
    lock_faults,
)
