"""Checks that the processes that run, the units of systemd, and the locks that they hold belong to VMs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from virshle.errors import HostError
from virshle.exec.process import recorded
from virshle.exec.table import has_open
from virshle.fs import held
from virshle.model.names import run_name
from virshle.service.lost import end, shut_down
from virshle.service.seen import Seen, SeenVm, Violation
from virshle.store.astray import move_back
from virshle.vmm.running import SCRIPT, VmProcess
from virshle.vmm.systemd import systemd_runs, unit_folder, unit_name, unit_process

_UP = ("active", "activating", "deactivating", "reloading")


def run_faults(seen: Seen) -> Iterator[Violation]:
    """VMs that do not run as their launch.json says."""
    processes = {process.pid: process for process in seen.processes}
    for vm in seen.vms:
        if vm.hidden is not None:
            yield Violation(vm.hidden.message, vm.subject, vm.hidden.hint)
        if vm.process is None:
            continue
        again = f"v stop {vm.entry.name}; v start {vm.entry.name}"
        if vm.process.pid is None:
            why = "runs, but its record does not name the process"
            yield Violation(why, vm.subject, f"fuser -v {quote(str(vm.place.record))} names it")
        elif not vm.place.run.is_dir():
            why = f"runs, but its runtime folder {vm.place.run} is gone: nothing can reach its VMM"
            yield Violation(why, vm.subject, _without_sockets(vm))
        elif why := _otherwise(seen, vm, processes.get(vm.process.pid)):
            yield Violation(why, vm.subject, again)


def _otherwise(seen: Seen, vm: SeenVm, process: VmProcess | None) -> str:
    assert vm.process is not None
    launch, last = vm.launch, recorded(vm.place.record)
    if launch is None:
        return "runs, but launch.json does not say how"
    if last is None or last.token != launch.token:
        return "launch.json belongs to another run, not to the one that runs now"
    # The process of the script becomes the VMM (exec).
    if process is None or process.kind not in (launch.hypervisor, SCRIPT):
        what = process.kind if process else "not its VMM"
        return f"launch.json says that {launch.hypervisor} runs it, but process {vm.process.pid} is {what}"
    if isinstance(seen.units, HostError) or not systemd_runs():
        return ""
    if launch.unit and seen.units.get(launch.unit) not in _UP:
        return f"runs outside of its unit {launch.unit}"
    return ""


def _without_sockets(vm: SeenVm) -> str:
    """What can still be done for a VM that runs without its runtime folder."""
    for path in sorted(vm.place.run.parent.iterdir()) if vm.place.run.parent.is_dir() else ():
        if vm.place.run.name in path.name:
            return f"move it back: {move_back(path, vm.place.run)}"
    if vm.launch is not None and vm.launch.ssh_port is not None:
        return f"move it back, if it was moved; else stop the VM by ssh: v stop {vm.entry.name}"
    return "move it back, if it was moved; else shut the VM down from inside"


def process_faults(seen: Seen) -> Iterator[Violation]:
    """Processes that run for a VM that does not exist, that is stopped, or that has another VMM."""
    owners = {vm.place.run.name: vm for vm in seen.vms}
    for process in seen.processes:
        owner = owners.get(process.run)
        why = _stray(process, owner)
        if why and (remedy := _end(seen, process, owner)):
            yield Violation(f"{process.kind} {why}", f"process {process.pid}", remedy)


def _stray(process: VmProcess, owner: SeenVm | None) -> str:
    if owner is None:
        return "runs for no VM"
    if owner.hidden is not None:
        return ""
    if owner.process is None:
        return f"runs for {owner.subject}, which is stopped"
    # cloud-hypervisor has a child with the same name, which watches the terminal's size (vmm/src/sigwinch_listener.rs).
    if process.is_vmm and owner.process.pid not in (None, process.pid, process.parent):
        return f"runs beside process {owner.process.pid}, which runs {owner.subject}"
    return ""


def _end(seen: Seen, process: VmProcess, owner: SeenVm | None) -> str:
    """How to end a process that belongs to no VM; empty if another check reports it. `kill` is proposed only for a
    process that runs no guest, and only if its VM does not run either."""
    if process.run in seen.lost:
        return seen.lost[process.run]
    if owner is not None and owner.process is not None:
        both = f"{owner.process.pid},{process.pid}"
        return f"both write to the same disks: shut one of the two guests down from inside; ps -wwfp {both}"
    return end(seen.layout, process, seen.processes)


def unit_faults(seen: Seen) -> Iterator[Violation]:
    """Units that run no VM, or that systemd still lists although their VM is gone."""
    if isinstance(seen.units, HostError):
        yield Violation(seen.units.message, "units of systemd", seen.units.hint)
        return
    running = {vm.launch.unit for vm in seen.vms if vm.process and vm.launch}
    kept = {unit_name(vm.entry.name) for vm in seen.vms} | {vm.launch.unit for vm in seen.vms if vm.launch}
    runs = {vm.place.folder for vm in seen.vms if vm.process}
    for unit, state in seen.units.items():
        if unit in (running if state in _UP else kept):
            continue
        try:
            folder = unit_folder(unit)
            if folder is not None and folder.parent != seen.layout.vms:
                continue  # of a VM in another state folder
            if folder in runs:
                continue  # its VM's launch.json does not name it: `run_faults` reports that
            remedy = _end_unit(seen, unit, state, folder)
        except HostError as error:
            yield Violation(error.message, f"unit {unit}", error.hint)
            continue
        if remedy:
            yield Violation(f"is {state}, but belongs to no VM", f"unit {unit}", remedy)


def _end_unit(seen: Seen, unit: str, state: str, folder: Path | None) -> str:
    """`systemctl stop` is proposed only for a unit in which nothing runs. If the VM's folder is gone, a stop would cut
    the power: the program that ExecStop runs is in that folder."""
    if state not in _UP:
        return f"systemctl reset-failed {unit}"
    run = run_name(folder.name) if folder else ""
    if run in seen.lost:
        return seen.lost[run]
    pid = unit_process(unit)
    if pid is None:
        return f"systemctl stop {unit}"
    process = next((one for one in seen.processes if one.pid == pid), None)
    return shut_down(seen.layout, process) if process else f"to see what it runs: systemctl status {unit}"


def lock_faults(seen: Seen) -> Iterator[Violation]:
    """Locks of folders that a VMM or its helper holds: no command could work on the VM while that process lives."""
    for folder in [seen.layout.vms, *(vm.place.folder for vm in seen.vms)]:
        if not _held(folder):
            continue
        for process in seen.processes:
            if has_open(process.pid, folder):
                why = f"{process.kind} holds the lock of {folder}"
                yield Violation(why, f"process {process.pid}", end(seen.layout, process, seen.processes))


def _held(folder: Path) -> bool:
    """False if we may not look into the folder: then another check reports the owner of the folder."""
    try:
        return held(folder)
    except PermissionError:
        return False
