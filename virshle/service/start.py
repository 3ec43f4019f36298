"""Start one VM: choose what the run needs, make a plan, apply it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

from virshle.errors import ConflictError, HostError
from virshle.exec.process import Process, cut_power
from virshle.model.vm import KernelBoot, Vm
from virshle.network import choose_port
from virshle.plan import Run, Step, run
from virshle.service.clock import set_clock
from virshle.service.files import closed, cut_short, missing, odd, short
from virshle.service.node import Node
from virshle.service.ready import listen_steps, told_of
from virshle.store import Entry
from virshle.store.change import renew_definition
from virshle.store.layout import run_link
from virshle.store.read import to_own
from virshle.userdata import seed_steps
from virshle.vmm.account import vmm_user, ways_above
from virshle.vmm.button import check_speakers
from virshle.vmm.choose import choose, driver_of
from virshle.vmm.driver import Launch, Machine, Place, Told
from virshle.vmm.launch import launch_steps
from virshle.vmm.seen import driver_at, launch_of
from virshle.vmm.systemd import ALREADY, systemd_runs, unit_name


@dataclass(frozen=True)
class Started:
    vm: Vm
    launch: Launch | None
    before: Told | None = None
    """For a VM that ran already: what its VMM said about it. None for a VM that was started now."""

    @property
    def already(self) -> bool:
        return self.before is not None

    @property
    def resumed(self) -> bool:
        return self.before is not None and self.before.state == "paused"


def start(node: Node, target: Entry, *, listen: bool = False) -> Started:
    """Raises ConflictError, ConfigError, HostError; everything that was begun is then undone. A VM that runs is not
    changed; a paused VM is resumed. `listen`: record what the guest says, because `wait_ready` will be called."""
    started = _start(node, target, listen)
    if started.resumed:
        set_clock(node, target)
    return started


def _start(node: Node, target: Entry, listen: bool) -> Started:
    with node.apply() as apply, node.locked(target, apply) as entry:
        vm, place = entry.whole(), node.place(entry.uuid)
        process = node.process(vm.uuid)
        if process:
            told = told_of(place)
            if told.state == "crashed":
                raise ConflictError(f"{vm.name} cannot start: {told.why}", hint=f"{told.remedy} {vm.name}")
            if told.state == "paused":
                apply(node.plan(vm, *resume_steps(vm, place, told)))
                apply.commit()
            # We have the lock, so `starting` means that a start was killed. That VMM will never boot its guest.
            if told.state != "starting":
                return Started(vm, launch_of(place), told)
            apply(node.plan(vm, *end_steps(vm.name, place, process)))
        place = node.next_place(vm.uuid)
        check_files(vm, place)
        machine = plan_machine(vm, place)
        try:
            apply(node.plan(vm, *renew_definition(entry.folder, vm), *start_steps(machine, listen=listen)))
        except HostError as error:
            if machine.launch.unit and not error.hint:
                error.hint = f"systemd's messages: journalctl -u {machine.launch.unit} -n 20"
            raise _taken(machine, error) or error from None
        apply.commit()
    return Started(vm, machine.launch)


def _taken(machine: Machine, error: HostError) -> ConflictError | None:
    """The error if systemd has a unit of that name which belongs to another VM; else None."""
    unit = machine.launch.unit
    if unit is None or not any(ALREADY in line for line in error.details):
        return None
    return ConflictError(
        f"{machine.vm.name} cannot start: systemd runs another {unit}.service already",
        hint=f"systemctl status {unit} shows what it runs, for example a VM of another state folder: stop that first",
    )


def resume_steps(vm: Vm, place: Place, told: Told) -> list[Step]:
    """Raises ConflictError if something else paused the guest and will resume it, for example a debugger."""
    if told.why and not told.remedy:
        raise ConflictError(f"{vm.name} is paused: {told.why}", hint=f"to resume it: v resume {vm.name}")
    return [driver_at(place).resume(place)]


def start_steps(machine: Machine, *, listen: bool = False) -> list[Step]:
    vm, place = machine.vm, machine.place
    driver = driver_of(machine.launch, place)
    return [
        *ways_above(machine.launch.user, place.run.parents[1]),
        run("make its runtime folder", "mkdir", "-p", "-m", "0700", "--", place.run.parent, place.run),
        note_run(place),
        *seed_steps(vm, place.folder, place.seed),
        *(listen_steps(driver, place) if listen else []),
        *launch_steps(driver, machine),
    ]


def note_run(place: Place) -> Step:
    """So that later commands find the folder, also with another XDG_RUNTIME_DIR or VIRSHLE_RUN_DIR."""
    link = run_link(place.folder)
    return run("note where its runtime folder is", "ln", "-sfnT", "--", place.run, link)


def plan_machine(vm: Vm, place: Place, *, port: int | None = None) -> Machine:
    """Chooses everything that this run needs, before anything is planned. `port`: for ssh; None: a free port is chosen.
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
    """Raises ConflictError if a file that the VM needs is missing or cut short, or if a path that will be written to is
    a link."""
    folder = place.folder
    for path in (*(folder / name for name in ("disk", "boot", "log", "seed")), place.run):
        if path.is_symlink() or not (path.is_dir() or not os.path.lexists(path)):
            raise ConflictError(
                f"{vm.name} cannot start: {path} is a link to elsewhere, or not a folder",
                hint="put the folder itself there",
            )
    try:
        for path in odd_files(vm, place):
            raise ConflictError(
                f"{vm.name} cannot start: {missing(path)}",
                hint="put the file back; v info shows all files",
            )
    except PermissionError as error:
        hint = f"to make it yours, as root: {to_own(folder)}"
        raise ConflictError(f"{vm.name} cannot start: {closed(error)}", hint=hint) from None
    for path, has, wanted in short_disks(vm, place):
        raise ConflictError(
            f"{vm.name} cannot start: {cut_short(path, has, wanted)}",
            hint=f"put a whole copy back; or go on without the missing part, which is lost: {growing(path, wanted)}",
        )


def short_disks(vm: Vm, place: Place) -> Iterator[tuple[Path, int, int]]:
    """See `virshle.service.files`."""
    return short(place.folder, [(disk.file, disk.size) for disk in vm.disks])


def growing(path: Path, size: int) -> str:
    return f"truncate -s {size} {quote(str(path))}"


def odd_files(vm: Vm, place: Place) -> Iterator[Path]:
    """Files that the VM needs and that are missing, and files that are not regular files in the VM's folder."""
    needed = [disk.file for disk in vm.disks]
    made = [str(path.relative_to(place.folder)) for path in (place.record, place.console_log, place.vmm_log)]
    if isinstance(vm.boot, KernelBoot):
        needed += [vm.boot.kernel, vm.boot.initrd]
    else:
        # The first start makes this file.
        made.append(vm.boot.variables)
    return odd(place.folder, [*needed, *(file for file in made if os.path.lexists(place.folder / file))])


def end_steps(name: str, place: Place, process: Process) -> list[Step]:
    """Cuts the power. Raises ConflictError if it is not known which process must be killed."""
    if process.pid is None:
        raise ConflictError(
            f"{name} runs, but its record does not name the process",
            hint=f"fuser -v {quote(str(place.record))} names it",
        )
    return [Run("cut its power", cut_power(process.pid, place.record)), over_step(place)]


def over_step(place: Place) -> Step:
    """The run ended because the user wanted it: clear the record of its process, so that it does not look crashed."""
    return run("note that the run is over", "truncate", "--no-create", "-s", "0", "--", place.record)
