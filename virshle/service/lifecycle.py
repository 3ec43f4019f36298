"""Start, stop and delete one VM. Each takes the VM's lock, looks again, plans and applies."""

from __future__ import annotations

import os
import stat
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from virshle.errors import ConflictError, HostError, TimedOutError
from virshle.exec.process import Process, kill
from virshle.model.vm import KernelBoot, Vm
from virshle.network import choose_port
from virshle.plan import Apply, Condition, Contains, Gone, Greets, Plan, Run, Step, Wait, run
from virshle.service.node import Node
from virshle.store import Entry, leave, remove
from virshle.store.layout import command_log, console_log, process_record, vmm_log
from virshle.userdata import SEED, seed_steps
from virshle.vmm.choose import choose_driver, driver_of
from virshle.vmm.driver import Launch, Machine, read_launch, ready_file


@dataclass(frozen=True)
class Started:
    vm: Vm
    launch: Launch | None
    already: bool = False


def start(node: Node, target: Entry) -> Started:
    """Raises ConflictError, ConfigError, HostError; what was begun is undone. A running VM is left alone."""
    with node.apply() as apply, node.locked(target, apply) as entry:
        vm = entry.whole()
        if node.process(vm.uuid):
            return Started(vm, read_launch(node.layout.run(vm.uuid)), already=True)
        check_files(vm, entry.folder)
        machine = plan_machine(node, vm, entry.folder)
        runtime = machine.run
        steps = [
            run("make its runtime folder", "mkdir", "-p", "-m", "0700", runtime.parent, runtime),
            *seed_steps(vm, entry.folder, runtime),
            *choose_driver(vm.hypervisor).launch(machine),
        ]
        apply(node.plan(vm, *steps))
        apply.commit()
    return Started(vm, machine.launch)


def plan_machine(node: Node, vm: Vm, folder: Path) -> Machine:
    """Chooses all that this run needs, before anything is planned."""
    port = choose_port(vm.uuid) if vm.nets else None
    driver = choose_driver(vm.hypervisor)
    launch = driver.choose(vm, ssh_port=port, now=datetime.now(UTC), token=uuid.uuid4().hex)
    return Machine(
        vm=vm,
        folder=folder,
        run=node.layout.run(vm.uuid),
        launch=launch,
        record=process_record(folder),
        seed=folder / SEED,
        console_log=console_log(folder),
        vmm_log=vmm_log(folder),
    )


def check_files(vm: Vm, folder: Path) -> None:
    """Raises ConflictError where a file that it needs is missing, or is no file in its own folder."""
    boot = [vm.boot.kernel, vm.boot.initrd] if isinstance(vm.boot, KernelBoot) else [vm.boot.variables]
    for name in [*(disk.file for disk in vm.disks), *boot]:
        path = folder / name
        try:
            plain = stat.S_ISREG(os.lstat(path).st_mode) and path.resolve().is_relative_to(folder.resolve())
        except OSError:
            plain = False
        if not plain:
            raise ConflictError(
                f"{vm.name} cannot start: {path} is missing, or no regular file", hint="put it back; v info shows all"
            )


def ready_wait(node: Node, vm: Vm, timeout: float) -> Wait:
    """What to wait for until it is ready. Raises ConflictError where nothing can say so."""
    runtime, folder = node.layout.run(vm.uuid), node.layout.vm(vm.uuid)
    launch = read_launch(runtime)
    until: Condition
    if vm.ready == "guest":
        why, until = f"{vm.name} to say that it is ready", Contains(ready_file(runtime), "READY=1")
    elif launch is not None and launch.ssh_port is not None:
        why, until = f"{vm.name}'s ssh server to answer", Greets(launch.ssh_port, "SSH-")
    else:
        raise ConflictError(
            f"nothing says when {vm.name} is ready: it has no net for ssh, and its template does not say that the "
            "guest tells",
            hint='start it without --wait, or set ready = "guest" in its template',
        )
    hint = f"look at its console: v logs {vm.name}"
    return Wait(why, until, timeout, fatal=Gone(process_record(folder)), logs=(console_log(folder),), hint=hint)


def wait_ready(node: Node, vm: Vm, timeout: float) -> str:
    """What was waited for. Raises TimedOutError; the VM is left as it is."""
    step = ready_wait(node, vm, timeout)
    with node.apply() as apply:
        apply(node.plan(vm, step))
    return step.why


@dataclass(frozen=True)
class Stopped:
    vm: Vm
    how: str
    """ "already", "gracefully" or "by force"."""


def stop(node: Node, target: Entry, *, force: bool = False, timeout: float = 30.0) -> Stopped:
    """Presses the power button and waits; only with `force` is the power cut after `timeout` seconds.

    Raises TimedOutError where the guest did not power off, HostError where the button cannot be pressed; it is left
    running.
    """
    with node.apply() as apply, node.locked(target, apply) as entry:
        vm = entry.whole()
        process = node.process(vm.uuid)
        if process is None:
            return Stopped(vm, "already")
        how = "gracefully"
        try:
            _power_off(node, apply, vm, timeout)
        except (TimedOutError, HostError) as error:
            if node.process(vm.uuid) is None:
                return Stopped(vm, how)  # by itself, at the same moment
            if not force:
                message = f"{vm.name} did not power off and is left running: {error.message}"
                hint = f"cut its power: v stop --force {vm.name}"
                raise type(error)(message, hint=hint, details=error.details) from error
            how = "by force"
            apply(node.plan(vm, *_cut_power(entry, process)))
    return Stopped(vm, how)


def _power_off(node: Node, apply: Apply, vm: Vm, timeout: float) -> None:
    """The button is pressed in any case; both together take `timeout` seconds at most, but for the least moment."""
    began = time.monotonic()
    runtime = node.layout.run(vm.uuid)
    driver = driver_of(read_launch(runtime))
    apply(node.plan(vm, driver.power_button(runtime, max(timeout, 1))))
    took = time.monotonic() - began
    # To be pressed takes no time, unless others use the socket; what is told is then what was asked for.
    left = timeout if took < 1 else max(timeout - round(took), 0)
    apply(node.plan(vm, Wait(f"{vm.name} to power off", Gone(process_record(node.layout.vm(vm.uuid))), left)))


def _cut_power(entry: Entry, process: Process) -> list[Step]:
    """Raises ConflictError where it is not known which process to kill."""
    record = process_record(entry.folder)
    if process.pid is None:
        raise ConflictError(
            f"{entry.name} runs, and its record does not say as which process", hint=f"fuser -v {record} names it"
        )
    gone = Wait(f"{entry.name}'s process to end", Gone(record), 10)
    return [Run("cut its power", kill(process.pid)), gone]


def check_deletable(node: Node, entries: Sequence[Entry]) -> None:
    """Raises ConflictError where one is broken or runs."""
    for entry in entries:
        entry.whole()
    running = [entry.name for entry in entries if node.process(entry.uuid)]
    if running:
        words = " ".join(running)
        verb = "is" if len(running) == 1 else "are"
        hint = f"stop first: v stop {words}; or cut the power too: v delete --force {words}"
        raise ConflictError(f"{', '.join(running)} {verb} running, and nothing was deleted", hint=hint)


def delete(node: Node, target: Entry, *, force: bool = False) -> str:
    """Its name. A running VM is refused without `force`, and so is a broken one."""
    with node.apply() as apply, node.locked(target, apply) as entry:
        process = node.process(entry.uuid)
        if not force:
            check_deletable(node, [entry])
        journal = command_log(entry.folder)
        if process:
            apply(Plan(entry.name, _cut_power(entry, process), journal))
        with node.registry():
            apply(Plan(entry.name, leave(node.layout, entry.uuid), journal))
        apply(Plan(entry.name, remove(node.layout, entry.uuid)))
    return entry.name
