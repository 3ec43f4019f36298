"""Start one VM: all that the run needs is chosen, planned, applied."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

from virshle.errors import ConflictError, HostError
from virshle.exec.process import Process, cut_power
from virshle.model.vm import KernelBoot, Vm
from virshle.network import choose_port
from virshle.plan import Run, Step, run
from virshle.service.node import Node
from virshle.service.ready import listen_steps
from virshle.store import Entry
from virshle.store.change import renew_definition
from virshle.userdata import seed_steps
from virshle.vmm.account import vmm_user
from virshle.vmm.button import check_speakers
from virshle.vmm.choose import choose, driver_of
from virshle.vmm.driver import Launch, Machine, Place, Told, read_launch
from virshle.vmm.launch import launch_steps
from virshle.vmm.systemd import ALREADY, systemd_runs, unit_name


@dataclass(frozen=True)
class Started:
    vm: Vm
    launch: Launch | None
    already: bool = False


def start(node: Node, target: Entry, *, listen: bool = False) -> Started:
    """Raises ConflictError, ConfigError, HostError; what was begun is undone. A running VM is left alone. `listen`: for
    what the guest says, as `wait_ready` will want to know it."""
    with node.apply() as apply, node.locked(target, apply) as entry:
        vm, place = entry.whole(), node.place(entry.uuid)
        process = node.process(vm.uuid)
        if process:
            told = told_of(place)
            if told.state == "crashed":
                raise ConflictError(f"{vm.name} cannot start: {told.why}", hint=f"{told.remedy} {vm.name}")
            # Else a start was killed, as the lock is ours, and its VMM was never told to boot the guest.
            if told.state != "starting":
                return Started(vm, read_launch(place), already=True)
            apply(node.plan(vm, *end_steps(vm.name, place, process)))
        check_files(vm, place)
        machine = plan_machine(vm, place)
        try:
            apply(node.plan(vm, *renew_definition(entry.folder, vm), *start_steps(machine, listen=listen)))
        except HostError as error:
            if machine.launch.unit and not error.hint:
                error.hint = f"what systemd says of it: journalctl -u {machine.launch.unit} -n 20"
            raise _taken(machine, error) or error from None
        apply.commit()
    return Started(vm, machine.launch)


def _taken(machine: Machine, error: HostError) -> ConflictError | None:
    """Whether it failed because systemd has a unit of that name which is not this VM's."""
    unit = machine.launch.unit
    if unit is None or not any(ALREADY in line for line in error.details):
        return None
    return ConflictError(
        f"{machine.vm.name} cannot start: systemd runs another {unit}.service already",
        hint=f"systemctl status {unit}; if nobody needs it: systemctl stop {unit}",
    )


def told_of(place: Place) -> Told:
    """What its VMM says of a VM whose process runs."""
    launch = read_launch(place)
    return driver_of(launch, place).state(place, launch)


def start_steps(machine: Machine, *, listen: bool = False) -> list[Step]:
    vm, place = machine.vm, machine.place
    driver = driver_of(machine.launch, place)
    return [
        run("make its runtime folder", "mkdir", "-p", "-m", "0700", "--", place.run.parent, place.run),
        *seed_steps(vm, place.folder, place.seed),
        *(listen_steps(driver, place) if listen else []),
        *launch_steps(driver, machine),
    ]


def plan_machine(vm: Vm, place: Place, *, port: int | None = None) -> Machine:
    """Chooses all that this run needs, before anything is planned. `port`: for ssh; none: a free one is found.
    Raises ConfigError, ConflictError."""
    user, unit = vmm_user(), unit_name(vm.name) if systemd_runs() else None
    if unit:
        check_speakers(user)
    launch = Launch(
        **vars(choose(vm, user)),
        name=vm.name,
        ssh_port=(port or choose_port(vm.uuid)) if vm.nets else None,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        token=uuid.uuid4().hex,
        unit=unit,
        user=user,
    )
    return Machine(vm, place, launch)


def check_files(vm: Vm, place: Place) -> None:
    """Raises ConflictError where a file that it needs is missing or cut short, or anything that is written to is not
    where it seems to be."""
    folder = place.folder
    for path in (*(folder / name for name in ("disk", "boot", "log", "seed")), place.run):
        if path.is_symlink() or not (path.is_dir() or not os.path.lexists(path)):
            raise ConflictError(
                f"{vm.name} cannot start: {path} is a link to elsewhere, or no folder",
                hint="put the folder itself there",
            )
    for path in odd_files(vm, place):
        raise ConflictError(
            f"{vm.name} cannot start: {path} is missing, or no regular file", hint="put it back; v info shows all"
        )
    for path, has, wanted in short_disks(vm, place):
        raise ConflictError(
            f"{vm.name} cannot start: {path} was cut short: it has {has} bytes, and the disk {wanted}",
            hint=f"put a whole copy back; what is missing is lost, and to go on without it: {growing(path, wanted)}",
        )


def short_disks(vm: Vm, place: Place) -> Iterator[tuple[Path, int, int]]:
    """Of each disk that lacks its end: its file, the bytes that it has, and those of its definition. A larger one was
    grown by hand, which is anybody's right. One that is missing is for `odd_files` to tell."""
    for disk in vm.disks:
        path = place.folder / disk.file
        with suppress(OSError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size < disk.size:
                yield path, status.st_size, disk.size


def growing(path: Path, size: int) -> str:
    return f"truncate -s {size} {quote(str(path))}"


def odd_files(vm: Vm, place: Place) -> Iterator[Path]:
    """What is no file in its own folder, or is missing though the VM needs it."""
    folder = place.folder
    needed = [folder / disk.file for disk in vm.disks]
    made = [place.record, place.console_log, place.vmm_log]
    if isinstance(vm.boot, KernelBoot):
        needed += [folder / vm.boot.kernel, folder / vm.boot.initrd]
    else:
        # The first start makes it.
        made.append(folder / vm.boot.variables)
    paths = [*needed, *(path for path in made if os.path.lexists(path))]
    home = os.path.realpath(folder)
    inside = {parent: Path(os.path.realpath(parent)).is_relative_to(home) for parent in {path.parent for path in paths}}
    for path in paths:
        try:
            plain = stat.S_ISREG(os.lstat(path).st_mode) and inside[path.parent]
        except OSError:
            plain = False
        if not plain:
            yield path


def end_steps(name: str, place: Place, process: Process) -> list[Step]:
    """Cuts the power. Raises ConflictError where it is not known which process to kill."""
    if process.pid is None:
        raise ConflictError(
            f"{name} runs, and its record does not say as which process", hint=f"fuser -v {place.record} names it"
        )
    return [Run("cut its power", cut_power(process.pid, place.record)), over_step(place)]


def over_step(place: Place) -> Step:
    """Whatever became of the VMM, the run ended because it was told to: no process is recorded any more."""
    return run("note that the run is over", "truncate", "--no-create", "-s", "0", "--", place.record)
