"""Start, stop and delete one VM. Each takes the VM's lock, looks again, plans and applies."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from virshle.errors import ConflictError, HostError, TimedOutError
from virshle.exec.process import Process
from virshle.model.vm import KernelBoot, Vm
from virshle.network import choose_port
from virshle.plan import Contains, Gone, Greets, Plan, Step, Wait, run
from virshle.plan.executor import wait
from virshle.service.node import Node
from virshle.store import Entry, remove
from virshle.store.layout import command_log, console_log, vmm_log
from virshle.userdata import SEED, seed_steps
from virshle.vmm.choose import choose_driver
from virshle.vmm.driver import Launch, Machine, read_launch, ready_file, record


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
    launch = choose_driver(vm.hypervisor).choose(vm, ssh_port=port, now=datetime.now(UTC))
    return Machine(
        vm=vm,
        folder=folder,
        run=node.layout.run(vm.uuid),
        launch=launch,
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


def ready_wait(node: Node, vm: Vm, launch: Launch | None, timeout: float) -> Wait:
    """What to wait for until it is ready. Raises ConflictError where nothing can say so."""
    runtime, folder = node.layout.run(vm.uuid), node.layout.vm(vm.uuid)
    hint = f"look at its console: v logs {vm.name}"
    tails = (console_log(folder),)
    if vm.ready == "guest":
        said = Contains(ready_file(runtime), "READY=1")
        why = f"{vm.name} to say that it is ready"
        return Wait(why, said, timeout, fatal=Gone(record(runtime)), logs=tails, hint=hint)
    if launch is None or launch.ssh_port is None:
        raise ConflictError(
            f"nothing says when {vm.name} is ready: it has no net for ssh, and its template does not say that the "
            "guest tells",
            hint='start it without --wait, or set ready = "guest" in its template',
        )
    answered = Greets(launch.ssh_port, "SSH-")
    why = f"{vm.name}'s ssh server to answer"
    return Wait(why, answered, timeout, fatal=Gone(record(runtime)), logs=tails, hint=hint)


def wait_ready(node: Node, vm: Vm, timeout: float) -> tuple[str, float]:
    """What was waited for, and the seconds it took. Raises TimedOutError; the VM is left as it is."""
    step = ready_wait(node, vm, read_launch(node.layout.run(vm.uuid)), timeout)
    if node.dry_run:
        node.dry_run(f"# {vm.name}: {step.why}\n{step.shell()}")
        return step.why, 0.0
    return step.why, wait(step, node.progress)


@dataclass(frozen=True)
class Stopped:
    vm: Vm
    how: str
    """ "already", "gracefully" or "by force"."""


def stop(node: Node, target: Entry, *, force: bool = False, timeout: float = 30.0) -> Stopped:
    """Presses the power button and waits; only with `force` is the power cut then.

    Raises TimedOutError where the guest did not power off; it is left running.
    """
    with node.apply() as apply, node.locked(target, apply) as entry:
        vm = entry.whole()
        process = node.process(vm.uuid)
        if process is None:
            return Stopped(vm, "already")
        how = "gracefully"
        try:
            apply(node.plan(vm, *_power_off(node, vm, timeout)))
        except TimedOutError as error:
            if not force:
                message = f"{vm.name} did not power off within {timeout:g} s and is left running"
                raise TimedOutError(message, hint=f"cut its power: v stop --force {vm.name}") from error
            how = "by force"
        except HostError:
            # The button cannot even be pressed.
            if not force:
                raise
            how = "by force"
        if how == "by force":
            apply(node.plan(vm, *_cut_power(node, entry, process)))
        apply(node.plan(vm, forget(node, vm)))
    return Stopped(vm, how)


def _power_off(node: Node, vm: Vm, timeout: float) -> list[Step]:
    runtime = node.layout.run(vm.uuid)
    gone = Wait(f"{vm.name} to power off", Gone(record(runtime)), timeout)
    return [choose_driver(vm.hypervisor).power_button(runtime), gone]


def _cut_power(node: Node, entry: Entry, process: Process) -> list[Step]:
    gone = Wait(f"{entry.name}'s process to end", Gone(record(node.layout.run(entry.uuid))), 10)
    return [run("cut its power", "kill", "-KILL", str(process.pid), ok=(0, 1)), gone]


def forget(node: Node, vm: Vm) -> Step:
    return run("remove its runtime folder", "rm", "-rf", "--one-file-system", "--", node.layout.run(vm.uuid))


def running_error(names: Sequence[str]) -> ConflictError:
    words = " ".join(names)
    verb = "is" if len(names) == 1 else "are"
    hint = f"stop first: v stop {words}; or cut the power too: v delete --force {words}"
    return ConflictError(f"{', '.join(names)} {verb} running, and nothing was deleted", hint=hint)


def delete(node: Node, target: Entry, *, force: bool = False) -> str:
    """Its name. A running VM is refused without `force`, and so is a broken one."""
    with node.apply() as apply, node.locked(target, apply) as entry:
        process = node.process(entry.uuid)
        if process and not force:
            raise running_error([entry.name])
        if not force:
            entry.whole()
        journal = command_log(entry.folder)
        if process:
            apply(Plan(entry.name, _cut_power(node, entry, process), journal))
        with node.registry(apply):
            apply(Plan(entry.name, remove(node.layout, entry.uuid), journal))
    return entry.name
