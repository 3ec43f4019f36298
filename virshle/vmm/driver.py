"""What every driver does: the steps of each verb, and one read of the VM's state."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from virshle.plan import Step

if TYPE_CHECKING:
    from virshle.model.vm import Vm

State = Literal["running", "paused", "stopped", "crashed", "broken", "unknown"]


@dataclass(frozen=True)
class Launch:
    """What was chosen for one run of a VM: the runtime folder's launch.json, gone with it."""

    hypervisor: str
    program: str
    version: str
    accelerator: str
    """kvm or tcg."""
    why: str
    """Why this hypervisor and accelerator."""
    ssh_port: int | None
    """On loopback; none without a net."""
    started: str
    """ISO 8601."""
    token: str
    """Tells this run from all others."""

    def json(self) -> str:
        return json.dumps(vars(self), indent=2) + "\n"


@dataclass(frozen=True)
class Machine:
    """One VM, with its two folders and what was chosen for this run."""

    vm: Vm
    folder: Path
    run: Path
    launch: Launch
    record: Path
    """Of its process, see `virshle.exec.process`."""
    seed: Path
    console_log: Path
    vmm_log: Path


@dataclass(frozen=True)
class Terminal:
    """Where a guest's console is typed into, and whence it is heard."""

    path: Path
    kind: Literal["fifo", "pty"]
    """fifo: what is written there is typed, and what the guest says is in its console log. pty: both ways, with a
    window's size; what one reads there is gone for the others."""


class Driver(Protocol):
    def choose(self, vm: Vm, *, ssh_port: int | None, now: datetime, token: str) -> Launch:
        """Raises ConfigError where this hypervisor cannot run it, saying what is missing."""

    def prepare(self, vm: Vm, folder: Path) -> list[Step]:
        """What a new VM's folder must hold for it besides its disks."""

    def launch(self, machine: Machine) -> list[Step]:
        """Starts the process and waits until it runs the guest."""

    def power_button(self, run: Path, timeout: float) -> Step:
        """Asks the guest to power off; within `timeout` seconds, for others may be using the VMM's socket."""

    def state(self, run: Path) -> State:
        """Of a process that is alive. Bounded; "unknown" where it does not answer."""

    def console(self, run: Path) -> Terminal:
        """Bounded. Raises ConflictError where it has none, HostError where the VMM cannot be asked."""


def launch_file(run: Path) -> Path:
    return run / "launch.json"


def ready_file(run: Path) -> Path:
    """What the guest says of itself, in lines as sd_notify(3) has them: `READY=1`."""
    return run / "ready"


def read_launch(run: Path) -> Launch | None:
    """None where it was not started since the host was, or by something else."""
    try:
        launch = Launch(**json.loads(launch_file(run).read_bytes()))
        return launch if isinstance(launch.ssh_port, int | None) else None
    except (OSError, ValueError, TypeError):
        return None
