"""The protocol of the drivers: the steps of each verb, and one way to read the VM's state."""

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
"""A VMM that does not answer this long after its start is seen as one that hangs."""

State = Literal["running", "paused", "starting", "stopped", "crashed", "broken", "unknown"]


@dataclass(frozen=True)
class Told:
    """What a VMM says about its guest."""

    state: State
    why: str = ""
    """The cause of the state, if the state is unusual."""
    remedy: str = ""
    """What to do about it. The VM's name is added to its end."""

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
    """Why cloud-hypervisor was not chosen, if the VM's hypervisor is `auto`."""
    cid: int | None = None
    """The number of the guest's vsock. None: it has no vsock. On cloud-hypervisor, other guests may have the same
    number, because the vsock is a socket in the runtime folder. On QEMU, no other guest of the host may have it."""
    firmware: str | None = None
    """The firmware file that cloud-hypervisor boots the VM with."""


@dataclass(frozen=True, kw_only=True)
class Launch(Choice):
    """Everything that was chosen for one run of a VM: the data of launch.json."""

    name: str
    """The VM's name."""
    ssh_port: int | None
    """The port on loopback. None: the VM has no net."""
    started: str
    """ISO 8601."""
    token: str
    """Each run has a different token."""
    unit: str | None
    """The unit of systemd. None: the VMM runs without a unit."""
    user: str | None
    """The user that runs the VMM, if that is not the user who started it."""

    def json(self) -> str:
        return json.dumps(vars(self), indent=2) + "\n"


@dataclass(frozen=True)
class Machine:
    """One VM, its files, and the choices for this run."""

    vm: Vm
    place: Place
    launch: Launch


@dataclass(frozen=True)
class Vmm:
    """The process that runs a VM, as data. `vmm.sh` becomes this process."""

    argv: tuple[str, ...]
    output: Path
    """The VMM's stdout is appended to this file."""
    stale: tuple[Path, ...]
    """Files that an earlier run may have left in the places where this run makes its sockets."""
    power_button: str
    """Lines of sh that press the power button, also if the guest is paused. They run in the runtime folder (see
    `virshle.vmm.button`)."""
    made: tuple[Path, ...] = ()
    """The files that `prepare` makes for it."""
    helpers: tuple[str, ...] = ()
    """Shell commands that run before the VMM. Each starts a process that goes to the background by itself."""


@dataclass(frozen=True)
class Terminal:
    """The terminal of a guest's console."""

    path: Path
    kind: Literal["fifo", "pty"]
    """fifo: input only; the guest's output is in its console log. pty: input and output, with a window size. Only one
    reader gets each byte of the output of a pty."""


class Driver(Protocol):
    @property
    def name(self) -> str: ...

    def most_vcpus(self, user: str | None) -> int | None:
        """The most processors that a VM can have on this host. None if that is not known. Raises as `available`."""

    def available(self, user: str | None) -> object:
        """Raises ConfigError, which says what is missing, if the hypervisor cannot run any VM on this host.

        `user`: the user that runs the VMM."""

    def choose(self, vm: Vm, user: str | None) -> Choice:
        """Raises ConfigError if the hypervisor cannot run this VM on this host."""

    def vmm(self, machine: Machine) -> Vmm:
        """The process to start."""

    def prepare(self, machine: Machine, *, blind: bool = False) -> list[Step]:
        """Makes the files that the process needs at its start. `blind`: assume that none of them exists."""

    def boot(self, machine: Machine) -> list[Step]:
        """The steps after the launch of the process, until the guest runs."""

    def power_button(self, place: Place, timeout: float) -> Step:
        """Asks the guest to power off. Waits at most `timeout` seconds: others may use the VMM's socket."""

    def pause(self, place: Place) -> Step: ...

    def resume(self, place: Place) -> Step:
        """Lets the guest run again, whatever paused it. Asks the VMM, for a bounded time."""

    def state(self, place: Place, launch: Launch | None) -> Told:
        """The state of a VM whose process is alive. Asks for a bounded time; "unknown" if there is no answer."""

    def ended_well(self, place: Place, launch: Launch) -> bool:
        """For a process that has ended: true if its guest powered off, or if somebody asked the process to end."""

    def console(self, place: Place) -> Terminal:
        """Asks for a bounded time. Raises ConflictError if it has no console, HostError if the VMM cannot be asked."""

    def vsock(self, place: Place, cid: int, port: int) -> Vsock:
        """The address of that port of the guest."""

    def notify_socket(self, place: Place) -> Path | None:
        """The socket on which virshle must listen for the guest's messages. None if the VMM writes them to a file."""


_TYPES: dict[object, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int | None": (int, type(None)),
}
"""The types of each annotation that the fields of Launch have."""
_LARGEST_PORT = 2**16 - 1
_LARGEST_CID = 2**32 - 1


def read_launch(place: Place) -> Launch | None:
    """None if the VM was never started, or if virshle did not start it."""
    try:
        data = json.loads(read_start(place.launch))
        launch = Launch(**{key: value for key, value in data.items() if key in _FIELDS})
        for name, kind in _FIELDS.items():
            if type(getattr(launch, name)) not in _TYPES[kind]:
                raise TypeError(name)
        # The name becomes a part of the names of files and sockets.
        check_name(launch.name)
        return launch if is_port_and_cid(launch) else None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None


_FIELDS = {field.name: field.type for field in fields(Launch)}


def is_port_and_cid(launch: Launch) -> bool:
    """True if the numbers are a valid port and a valid cid."""
    return _is_number(launch.ssh_port, _LARGEST_PORT) and _is_number(launch.cid, _LARGEST_CID)


def _is_number(number: int | None, largest: int) -> bool:
    return number is None or 0 < number <= largest
