"""The state of all VMs, read once. `virshle.service.check` looks for faults in it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from virshle.errors import ConflictError, HostError
from virshle.exec.process import Process
from virshle.model.names import run_name
from virshle.model.vm import Vm
from virshle.service.lost import lost_vms
from virshle.service.node import Node
from virshle.store import Entry, Layout
from virshle.store.change import Left, look
from virshle.vmm.driver import Launch, read_launch
from virshle.vmm.place import Place
from virshle.vmm.running import VmProcess, vm_processes
from virshle.vmm.systemd import units


@dataclass(frozen=True)
class Violation:
    """What is wrong, with what (`subject`), and the command that fixes it."""

    what: str
    subject: str
    remedy: str


@dataclass(frozen=True)
class SeenVm:
    entry: Entry
    place: Place
    vm: Vm | None
    broken: ConflictError | None
    """Why there is no `vm`."""
    process: Process | None
    hidden: HostError | None = None
    """Why it is not known if the VM runs."""

    @property
    def subject(self) -> str:
        return f"VM {self.entry.name}"

    @property
    def disks(self) -> list[Path]:
        return [self.place.folder / disk.file for disk in self.vm.disks] if self.vm else []

    @functools.cached_property
    def launch(self) -> Launch | None:
        return read_launch(self.place)


@dataclass(frozen=True)
class Seen:
    layout: Layout
    vms: Sequence[SeenVm]
    left: Left
    staging: Sequence[Path]
    """Folders of VMs that are being created or deleted, or that an interrupted command left."""
    processes: Sequence[VmProcess]
    units: Mapping[str, str] | HostError
    """The error if systemd does not answer."""
    lost: Mapping[str, str]
    """See `virshle.service.lost`."""


def see(node: Node) -> Seen:
    """Raises OSError, HostError."""
    processes = vm_processes(node.paths)
    runs = {process.run for process in processes if process.is_run}
    left = look(node.store, lambda uuid: run_name(uuid) in runs)
    there = [entry.uuid for entry in left.entries]
    return Seen(
        layout=node.layout,
        vms=[_see(node, entry) for entry in left.entries],
        left=left,
        staging=[*left.alone, *left.free],
        processes=processes,
        units=_units(),
        lost=lost_vms(node.layout, there, left.astray, processes),
    )


def _units() -> Mapping[str, str] | HostError:
    try:
        return units()
    except HostError as error:
        return error


def _see(node: Node, entry: Entry) -> SeenVm:
    vm, broken = None, None
    try:
        vm = entry.whole()
    except ConflictError as error:
        broken = error
    try:
        return SeenVm(entry, node.place(entry.uuid), vm, broken, node.process(entry.uuid))
    except HostError as error:
        return SeenVm(entry, node.place(entry.uuid), vm, broken, None, error)
