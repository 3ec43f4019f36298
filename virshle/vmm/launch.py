"""The steps that start a VM, from the choices for this run to a guest that runs. They are the same for every driver."""

from __future__ import annotations

from pathlib import Path

from virshle.exec.process import kill_launched
from virshle.exec.process import launch as detached
from virshle.plan import Run, Step, Write, run
from virshle.render import render
from virshle.vmm.account import account_steps, as_user, hand_over
from virshle.vmm.button import SPEAKERS
from virshle.vmm.driver import Driver, Machine, Vmm
from virshle.vmm.systemd import forget, start_unit


def launch_steps(driver: Driver, machine: Machine) -> list[Step]:
    """Raises ConfigError if the user that runs the VMM cannot reach its files."""
    made = [*account_steps(machine.launch.user), *driver.prepare(machine)]
    return [*made, *process_steps(driver, machine), *driver.boot(machine)]


def process_steps(driver: Driver, machine: Machine, *, blind: bool = False) -> list[Step]:
    """The steps from a complete folder to a VMM that runs. `blind`: assume nothing about the host."""
    place, user = machine.place, machine.launch.user
    steps: list[Step] = []
    if blind or not place.record.exists():
        steps.append(run("make the record of its process", "touch", "--", place.record))
    forgotten = (run("remove launch.json", "rm", "-f", "--", place.launch),)
    return [
        *steps,
        *hand_over(
            user,
            ways=_ways(machine),
            made=[place.seed, *driver.vmm(machine).made],
            things=_things(machine, blind),
            blind=blind,
        ),
        Write("write what was chosen for this run", place.launch, machine.launch.json(), undo=forgotten),
        Write("write the script that runs it", place.script, script(machine, driver.vmm(machine)), mode=0o755),
        *_process(machine),
    ]


def _ways(machine: Machine) -> list[Path]:
    folder, runtime = machine.place.folder, machine.place.run
    return [*reversed(folder.parents[:2]), folder, folder / "disk", folder / "boot", *reversed(runtime.parents[:2])]


def _things(machine: Machine, blind: bool) -> list[Path]:
    place, vm = machine.place, machine.vm
    if vm.boot.kind == "kernel":
        boot = [vm.boot.kernel, vm.boot.initrd]
    else:
        boot = [] if machine.launch.firmware else [vm.boot.variables]
    files = [place.folder / name for name in (*(disk.file for disk in vm.disks), *boot)]
    logs = sorted(place.logs.iterdir()) if place.logs.is_dir() and not blind else []
    return [place.run, place.record, place.logs, *logs, *files]


def script(machine: Machine, vmm: Vmm) -> str:
    place = machine.place
    return render(
        "vmm.sh.j2",
        name=machine.vm.name,
        uuid=machine.vm.uuid,
        record=place.record,
        run=place.run,
        token=machine.launch.token,
        stale=[*vmm.stale, place.ready],
        helpers=vmm.helpers,
        console_log=place.console_log,
        vmm_log=place.vmm_log,
        output=vmm.output,
        longest_log=place.longest_log,
        log_kept=place.log_kept,
        run_began=place.run_began,
        argv=vmm.argv,
        speakers=SPEAKERS.values(),
        power_button=vmm.power_button,
    )


def _process(machine: Machine) -> list[Step]:
    launch, place = machine.launch, machine.place
    undo = (Run("end the process that was started", kill_launched(place.record, launch.token)),)
    logs = (place.vmm_log,)
    if launch.unit is None:
        command = detached(place.script, as_user(launch.user))
        return [Run(f"start {launch.hypervisor}", command, undo=undo, logs=logs)]
    return [
        Run("remove an earlier, failed unit of the same name", forget(launch.unit)),
        Run(f"start {launch.hypervisor} as a unit of systemd", start_unit(machine), undo=undo, logs=logs),
    ]
