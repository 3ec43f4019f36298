"""What every driver does: the steps of each verb, and one read of the VM's state."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from virshle.fs import read_start
from virshle.model.names import check_name
from virshle.vmm.place import Place as Place

if TYPE_CHECKING:
    from virshle.model.vm import Vm
    from virshle.plan import Step
    from virshle.rpc import Vsock

ANSWER_SECONDS = 60
"""How long a VMM that was started may take to answer; more, and it is taken for one that hangs."""

State = Literal["running", "paused", "starting", "stopped", "crashed", "broken", "unknown"]


@dataclass(frozen=True)
class Told:
    """What a VMM says of its guest."""

    state: State
    why: str = ""
    """Where the state does not say all: what made it so, if that was not to be expected."""
    remedy: str = ""
    """What to do about it, up to the VM's name, with which it ends."""

    def about(self, name: str) -> str:
        return f"{self.why}; {self.remedy} {name}" if self.remedy else self.why


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a driver chose for one run of a VM."""

    hypervisor: str
    program: str
    version: str
    accelerator: str
    """kvm or tcg."""
    why: str
    """Why this accelerator."""
    instead: str = ""
    """Why cloud-hypervisor was not chosen, where it was free to be."""
    cid: int | None = None
    """By which the host reaches the guest's vsock; none without one. Of this guest alone on cloud-hypervisor, whose
    vsock is a socket in the runtime folder; of the whole host on QEMU."""
    firmware: str | None = None
    """That it boots by, on cloud-hypervisor."""


@dataclass(frozen=True, kw_only=True)
class Launch(Choice):
    """All that was chosen for one run of a VM: launch.json."""

    name: str
    """The VM's."""
    ssh_port: int | None
    """On loopback; none without a net."""
    started: str
    """ISO 8601."""
    token: str
    """Tells this run from all others."""
    unit: str | None
    """Of systemd; none where the VMM is a process of its own."""
    user: str | None
    """The VMM's, where that is not who started it."""

    def json(self) -> str:
        return json.dumps(vars(self), indent=2) + "\n"


@dataclass(frozen=True)
class Machine:
    """One VM, where it is, and what was chosen for this run."""

    vm: Vm
    place: Place
    launch: Launch


@dataclass(frozen=True)
class Vmm:
    """The process that runs a VM, as data: what `vmm.sh` becomes."""

    argv: tuple[str, ...]
    output: Path
    """What it prints on stdout is appended to this."""
    stale: tuple[Path, ...]
    """What a run before may have left where this one makes its sockets."""
    power_button: str
    """Of sh, in the runtime folder: presses it, also where the guest is paused (see `virshle.vmm.button`)."""
    made: tuple[Path, ...] = ()
    """What `prepare` makes for it."""
    helpers: tuple[str, ...] = ()
    """Shell commands that come before it, each of a process that goes to the background by itself."""


@dataclass(frozen=True)
class Terminal:
    """Where a guest's console is typed into, and whence it is heard."""

    path: Path
    kind: Literal["fifo", "pty"]
    """fifo: what is written there is typed, and what the guest says is in its console log. pty: both ways, with a
    window's size; what one reads there is gone for the others."""


class Driver(Protocol):
    @property
    def name(self) -> str: ...

    def most_vcpus(self, user: str | None) -> int | None:
        """How many processors it gives one VM on this host; None where it does not say. Raises as `available`."""

    def available(self, user: str | None) -> object:
        """Raises ConfigError where it runs no VM at all on this host, saying what is missing. `user`: the VMM's."""

    def choose(self, vm: Vm, user: str | None) -> Choice:
        """Raises ConfigError where it cannot run this VM here."""

    def vmm(self, machine: Machine) -> Vmm:
        """The process to start."""

    def prepare(self, machine: Machine, *, blind: bool = False) -> list[Step]:
        """What must be there before the process starts. `blind`: as where nothing is."""

    def boot(self, machine: Machine) -> list[Step]:
        """From a process that was launched to a guest that runs."""

    def power_button(self, place: Place, timeout: float) -> Step:
        """Asks the guest to power off; within `timeout` seconds, for others may be using the VMM's socket."""

    def pause(self, place: Place) -> Step: ...

    def resume(self, place: Place) -> Step:
        """Whatever it stands still for. Asks it, bounded."""

    def state(self, place: Place, launch: Launch | None) -> Told:
        """Of a process that is alive. Bounded; "unknown" where it does not answer."""

    def ended_well(self, place: Place, launch: Launch) -> bool:
        """Of a process that is gone: whether its guest powered off, or it was told to end."""

    def console(self, place: Place) -> Terminal:
        """Bounded. Raises ConflictError where it has none, HostError where the VMM cannot be asked."""

    def vsock(self, place: Place, cid: int, port: int) -> Vsock:
        """The way to that port of the guest."""

    def notify_socket(self, place: Place) -> Path | None:
        """Where somebody must listen for what the guest says of itself; none where the VMM writes it down."""


_TYPES: dict[object, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int | None": (int, type(None)),
}
"""Of a Launch's fields, as they are written there."""
_LARGEST_PORT = 2**16 - 1
_LARGEST_CID = 2**32 - 1


def read_launch(place: Place) -> Launch | None:
    """None where it was never started, or by something else."""
    try:
        data = json.loads(read_start(place.launch))
        launch = Launch(**{key: value for key, value in data.items() if key in _FIELDS})
        for name, kind in _FIELDS.items():
            if type(getattr(launch, name)) not in _TYPES[kind]:
                raise TypeError(name)
        # The names of files and of sockets are made of these.
        check_name(launch.name)
        return launch if is_port_and_cid(launch) else None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None


_FIELDS = {field.name: field.type for field in fields(Launch)}


def is_port_and_cid(launch: Launch) -> bool:
    """Whether what was chosen can be a port and a cid."""
    return _is_number(launch.ssh_port, _LARGEST_PORT) and _is_number(launch.cid, _LARGEST_CID)


def _is_number(number: int | None, largest: int) -> bool:
    return number is None or 0 < number <= largest
