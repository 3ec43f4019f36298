"""Pause, resume, stop and delete one VM. Each locks the VM, reads its state again, makes a plan and applies it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from virshle import log
from virshle.errors import ConflictError, HostError, TimedOutError, VirshleError
from virshle.exec import Command
from virshle.model.vm import Vm
from virshle.plan import Apply, Gone, Plan, Run, Step, Wait
from virshle.service import show
from virshle.service.clock import set_clock
from virshle.service.node import Node
from virshle.service.ready import told_of
from virshle.service.ssh import ssh_command
from virshle.service.start import end_steps, over_step
from virshle.store import Entry
from virshle.store.change import clear, leave, leave_link, remove
from virshle.store.layout import command_log
from virshle.vmm.driver import Place, State, Told
from virshle.vmm.seen import driver_at, launch_of
from virshle.vmm.systemd import forget, systemd_runs, unit_name


def pause(node: Node, target: Entry) -> bool:
    """False if the VM is paused already. Raises ConflictError if it is stopped, HostError."""
    return _switch(node, target, "paused")


def resume(node: Node, target: Entry) -> bool:
    """False if the VM runs already. Raises ConflictError if it is stopped, HostError."""
    return _switch(node, target, "running")


def _switch(node: Node, target: Entry, wanted: State) -> bool:
    with node.apply() as apply, node.locked(target, apply) as entry:
        vm, place = _known(node, entry), node.place(entry.uuid)
        if node.process(vm.uuid) is None:
            raise ConflictError(f"{vm.name} is stopped", hint=f"start it: v start {vm.name}")
        if told_of(place).state == wanted:
            return False
        driver = driver_at(place)
        apply(node.plan(vm, driver.pause(place) if wanted == "paused" else driver.resume(place)))
        apply.commit()
    if wanted == "running":
        set_clock(node, entry)
    return True


def _known(node: Node, entry: Entry) -> Vm | Entry:
    """The VM to stop or pause: its definition, or only its entry if it runs, as a running VM may be broken. Raises
    ConflictError if it is broken and does not run."""
    return entry.whole() if node.process(entry.uuid) is None else entry


@dataclass(frozen=True)
class Stopped:
    vm: Vm | Entry
    how: str
    """ "already", "gracefully", "by ssh", "by force", "before its guest began", or "after its crash"."""


def stop(node: Node, target: Entry, *, force: bool = False, timeout: float = 30.0) -> Stopped:
    """Presses the power button and waits. If the VMM cannot press it, the guest is asked by ssh to power off. The power
    is cut only with `force`, after `timeout` seconds.

    Raises TimedOutError if the guest did not power off, HostError if the button cannot be pressed. The VM then still
    runs.
    """
    with node.apply() as apply, node.locked(target, apply) as entry:
        vm, place = _known(node, entry), node.place(entry.uuid)
        process = node.process(vm.uuid)
        if process is None:
            return Stopped(vm, _forget_crash(node, apply, entry))
        if told_of(place).state == "starting":
            # The guest has not begun: it cannot power off, and it has nothing to lose.
            apply(node.plan(vm, *end_steps(vm.name, place, process)))
            return Stopped(vm, "before its guest began")
        how = "gracefully"
        try:
            how = _power_off(node, apply, entry, timeout)
        except (TimedOutError, HostError) as error:
            if node.process(vm.uuid) is None:
                return Stopped(vm, how)  # it ended by itself at the same moment
            if not force:
                raise _left(vm.name, told_of(place), error) from error
            how = "by force"
            apply(node.plan(vm, *end_steps(vm.name, place, process)))
    return Stopped(vm, how)


def _left(name: str, told: Told, error: TimedOutError | HostError) -> TimedOutError | HostError:
    """The error that says why the VM still runs. A guest can stand still although no user paused it, for example if the
    disk of the host is full. If its power is cut, it loses unwritten data; if it is resumed, it can go on."""
    message = f"{name} did not power off and is left running: {error.message}"
    hint = f"cut its power: v stop --force {name}"
    if told.state in ("paused", "crashed") and told.remedy:
        message, hint = f"{name} did not power off: {told.why}", f"{told.remedy} {name}"
    return type(error)(message, hint=hint, details=error.details)


def _forget_crash(node: Node, apply: Apply, entry: Entry) -> str:
    """For a VM that does not run. If it crashed, the user knows it by now, and the crash is not shown any more."""
    if show.state_of(node, entry) != "crashed":
        return "already"
    place = node.place(entry.uuid)
    apply(node.plan(entry.whole(), over_step(place), *_forget_unit(entry, place)))
    return "after its crash"


def _forget_unit(entry: Entry, place: Place) -> list[Step]:
    """The VMM is gone. The VM's folder must still exist, because it says which unit the VM had."""
    if not systemd_runs() or not place.record.exists():
        return []
    launch = launch_of(place)
    unit = (launch and launch.unit) or unit_name(entry.name)
    return [Run("let systemd forget that it failed", forget(unit))]


_MAY = '[ "$(id -u)" = 0 ] || sudo -n true'
_POWER_OFF = 'if [ "$(id -u)" = 0 ]; then poweroff; else sudo -n poweroff; fi'


def _power_off(node: Node, apply: Apply, entry: Entry, timeout: float) -> str:
    """Returns how the guest was asked. Takes at most `timeout` seconds, but at least the moment that pressing takes."""
    began = time.monotonic()
    place = node.place(entry.uuid)
    driver = driver_at(place)
    if told_of(place).state == "paused":
        # A paused guest does not notice the power button.
        apply(node.plan(entry, driver.resume(place)))
    how = "gracefully"
    try:
        apply(node.plan(entry, driver.power_button(place, max(timeout, 1))))
    except HostError as error:
        # The guest may be well although its sockets are gone, for example after the end of a login session.
        _ask_inside(node, apply, entry, error, max(timeout, 1))
        how = "by ssh"
    took = time.monotonic() - began
    # Pressing takes no time unless others use the socket. Messages then show the timeout that the user gave.
    left = timeout if took < 1 else max(timeout - round(took), 0)
    # A guest that was still booting missed the first press. If it powers off already, another press changes nothing.
    again = driver.power_button(place, 1) if how == "gracefully" else None
    apply(node.plan(entry, Wait(f"{entry.name} to power off", Gone(place.record), left, again=again), over_step(place)))
    return how


def _ask_inside(node: Node, apply: Apply, entry: Entry, error: HostError, timeout: float) -> None:
    """`error`: why the VMM cannot press the button. It is raised if the guest cannot be asked by ssh either."""
    try:
        vm = entry.whole()
        may, off = (ssh_command(node, vm, [words]) for words in (_MAY, _POWER_OFF))
        log.note(f"{vm.name}: {error.message}; its guest is asked by ssh to power off")
        see = Run("check that its guest can be asked", Command(may, timeout=timeout))
        # The guest's ssh server may end before ssh has the exit code. ssh then ends with 255.
        ask = Run("ask its guest to power off", Command(off, timeout=timeout, ok=(0, 255)))
        apply(node.plan(vm, see, ask))
    except VirshleError as second:
        error.details += [f"ssh failed too: {second.message}", *second.details]
        raise error from None


def may_be_stopped(node: Node, entry: Entry) -> bool:
    """True if `stop` has something to do, or if this is not known: `stop` then says why."""
    try:
        return node.process(entry.uuid) is not None or show.state_of(node, entry) == "crashed"
    except HostError:
        return True


def check_deletable(node: Node, entries: Sequence[Entry]) -> None:
    """Raises ConflictError if one of them is broken or runs."""
    for entry in entries:
        entry.whole()
    running = [entry.name for entry in entries if node.process(entry.uuid)]
    if running:
        words = " ".join(running)
        verb = "is" if len(running) == 1 else "are"
        hint = f"stop first: v stop {words}; or cut the power too: v delete --force {words}"
        raise ConflictError(f"{', '.join(running)} {verb} running, and nothing was deleted", hint=hint)


def delete(node: Node, target: Entry, *, force: bool = False) -> str:
    """Returns the VM's name. Without `force`, raises ConflictError for a VM that runs or is broken."""
    if force and target.folder.is_symlink():
        return _delete_link(node, target)
    with node.apply() as apply, node.locked(target, apply) as entry:
        process, place = node.process(entry.uuid), node.place(entry.uuid)
        if not force:
            check_deletable(node, [entry])
        journal = command_log(entry.folder)
        if process:
            apply(Plan(entry.name, end_steps(entry.name, place, process), journal))
        # A start that failed may have left nothing but its unit.
        apply(Plan(entry.name, _forget_unit(entry, place), journal))
        with node.registry():
            apply(Plan(entry.name, leave(node.layout, entry.uuid), journal))
        apply(Plan(entry.name, remove(node.layout, entry.uuid)))
    return entry.name


def _delete_link(node: Node, entry: Entry) -> str:
    """For a VM whose folder is a link: only the link is removed. Raises ConflictError if the VM runs."""
    # If the target of the link is gone, only the list of processes shows if the VM runs.
    if node.process(entry.uuid) is not None or node.runs(entry.uuid):
        raise ConflictError(
            f"{entry.name} runs, and its folder is a link to elsewhere: nothing was deleted",
            hint=f"stop it first: v stop {entry.name}",
        )
    with node.apply() as apply, node.registry():
        apply(Plan(entry.name, leave_link(node.layout, entry.uuid)))
        apply(Plan(entry.name, [clear("remove its runtime folder", node.layout.run(entry.uuid))]))
    return entry.name
