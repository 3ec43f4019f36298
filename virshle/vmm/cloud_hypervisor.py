"""The cloud-hypervisor driver: one process per VM, controlled through its REST API (v48 and newer)."""

from __future__ import annotations

import functools
import json
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from virshle.errors import ConfigError, ConflictError, VirshleError
from virshle.exec import Command, find_program
from virshle.exec import run as run_now
from virshle.exec.run import missing
from virshle.fs import read_end
from virshle.model.arch import Arch, host_arch
from virshle.model.version import MOST_VCPUS
from virshle.plan import Call, Gone, Replies, Step, Wait
from virshle.rpc import Http, Vsock
from virshle.vmm.account import own_path
from virshle.vmm.button import presses
from virshle.vmm.ch_config import GUEST_CID, OLDEST, Version, notify_socket, vm_config, vsock
from virshle.vmm.driver import ANSWER_SECONDS, Choice, Launch, Machine, Place, Terminal, Told, Vmm
from virshle.vmm.kvm import kvm_problem, kvm_vcpus
from virshle.vmm.landlock import landlock_works

if TYPE_CHECKING:
    from virshle.model.vm import Vm

PROGRAM = "cloud-hypervisor"
_WHERE = "https://github.com/cloud-hypervisor/cloud-hypervisor/releases, or your system's package"


@dataclass(frozen=True)
class CloudHypervisor:
    name: str = PROGRAM

    def available(self, user: str | None) -> tuple[str, Version]:
        """Program and version. Raises ConfigError if the program is missing or too old, or if KVM does not work."""
        program = find_program(PROGRAM)
        if program is None:
            raise ConfigError(f"{PROGRAM} is not on this machine", hint=f"install it: {_WHERE}")
        program = own_path(program, user)
        found = version(program)
        if found < OLDEST:
            raise ConfigError(
                f"{program} is v{_dotted(found)}, and v{_dotted(OLDEST)} is the oldest version that virshle supports",
                hint=f"install a newer one: {_WHERE}",
            )
        if problem := kvm_problem(host_arch(), user):
            raise ConfigError(
                f"{PROGRAM} needs KVM: {problem}",
                hint='use hypervisor = "qemu", which also runs without KVM; `v doctor` says how to get KVM',
            )
        return program, found

    def most_vcpus(self, user: str | None) -> int | None:
        return min(host_arch().ch_vcpus, kvm_vcpus() or MOST_VCPUS)

    def choose(self, vm: Vm, user: str | None) -> Choice:
        program, found = self.available(user)
        firmware = str(find_firmware(vm.boot.firmware, host_arch())) if vm.boot.kind == "firmware" else None
        if vm.nets and find_program("passt") is None:
            raise missing("passt", f"{PROGRAM} needs passt for a net of type user: ")
        return Choice(
            hypervisor=PROGRAM,
            program=program,
            version=_dotted(found),
            accelerator="kvm",
            why="/dev/kvm is usable",
            cid=GUEST_CID,
            firmware=firmware,
        )

    def vmm(self, machine: Machine) -> Vmm:
        place, launch = machine.place, machine.launch
        return Vmm(
            argv=(
                *(launch.program, "--api-socket", f"path={api_socket(place)}"),
                *("--event-monitor", f"path={events(place, launch)}", "--seccomp", "true"),
            ),
            # The serial port writes to stdout.
            output=place.console_log,
            # The events of an earlier run must go too.
            stale=(api_socket(place), Path(vsock(place)), *map(Path, _net_sockets(machine)), events(place, launch)),
            # A paused guest does not notice the button. If the guest runs, the first request fails and changes nothing.
            power_button=presses(_request(place, "vm.resume"), _request(place, "vm.power-button")),
            helpers=tuple(_passt(machine)),
        )

    def prepare(self, machine: Machine, *, blind: bool = False) -> list[Step]:
        return []

    def boot(self, machine: Machine) -> list[Step]:
        place = machine.place
        found = version(machine.launch.program)
        body = vm_config(machine, found, landlock=landlock_works(), sockets=_net_sockets(machine))
        return [
            Wait(
                "cloud-hypervisor to listen",
                Replies(Http(api_socket(place), "vmm.ping", method="GET", timeout=10, quiet=True), '"version"'),
                timeout=ANSWER_SECONDS,
                fatal=Gone(place.record),
                logs=(place.vmm_log,),
                hint="its log is shown above; the command is in `v logs VM --commands`",
            ),
            Call("create the VM in it", _request(place, "vm.create", body, timeout=ANSWER_SECONDS)),
            Call("boot the VM", _request(place, "vm.boot", timeout=ANSWER_SECONDS)),
        ]

    def power_button(self, place: Place, timeout: float) -> Step:
        return Call("press the power button", _request(place, "vm.power-button", timeout=timeout))

    def pause(self, place: Place) -> Step:
        return Call("pause the VM", _request(place, "vm.pause"))

    def resume(self, place: Place) -> Step:
        return Call("resume the VM", _request(place, "vm.resume"))

    def state(self, place: Place, launch: Launch | None) -> Told:
        """The state after the last event. If the events do not show it, the VMM is asked."""
        if launch is not None:
            for source, event in reversed(_settled(_last_events(events(place, launch)))):
                if (source, event) in _STATES:
                    return _STATES[source, event]
        try:
            told = Http(api_socket(place), "vm.info", method="GET", timeout=1, quiet=True).send().get("state")
        except VirshleError as error:
            return Told("starting") if "VM is not created" in error.message else Told("unknown", error.message)
        return _TOLD.get(str(told)) or Told("unknown", f"{PROGRAM} says that its state is {str(told)[:40]!r}")

    def ended_well(self, place: Place, launch: Launch) -> bool:
        return _last_events(events(place, launch))[-1:] == [("vmm", "shutdown")]

    def console(self, place: Place) -> Terminal:
        told: object = Http(api_socket(place), "vm.info", method="GET", timeout=5).send()
        for key in ("config", "console", "file"):
            told = told.get(key) if isinstance(told, dict) else None
        if not isinstance(told, str) or not _is_own_pty(told, place):
            raise ConflictError(
                "its cloud-hypervisor has no console to attach to",
                hint="if it was started by hand: stop it, then start it with `v start`",
            )
        return Terminal(Path(told), "pty")

    def vsock(self, place: Place, cid: int, port: int) -> Vsock:
        return Vsock(cid, port, Path(vsock(place)))

    def notify_socket(self, place: Place) -> Path | None:
        return Path(notify_socket(place))


def _is_own_pty(path: str, place: Place) -> bool:
    """True if the path is a terminal that belongs to the owner of the runtime folder. A VMM must not make us write to
    any other file."""
    if not re.fullmatch(r"/dev/pts/[0-9]{1,9}", path):
        return False
    with suppress(FileNotFoundError):
        return Path(path).stat().st_uid == place.run.stat().st_uid
    return False


_OFF = Told("starting", f"its guest is off, but {PROGRAM} still runs", "to boot it again: v start")
_STATES = {
    ("vmm", "starting"): Told("starting"),
    ("vm", "booting"): Told("starting"),
    ("vm", "booted"): Told("running"),
    ("vm", "rebooting"): Told("running"),
    ("vm", "rebooted"): Told("running"),
    ("vm", "resumed"): Told("running"),
    ("vm", "restored"): Told("paused"),
    ("vm", "paused"): Told("paused"),
    ("vm", "shutdown"): _OFF,
    ("vm", "deleted"): _OFF,
}
"""The state after each event. If the VM was shut down but the VMM still runs, the VM can be booted again."""
_TOLD = {
    "Running": Told("running"),
    "Paused": Told("paused"),
    "Created": Told("starting"),
    "Shutdown": _OFF,
    "BreakPoint": Told("paused", "a debugger stopped it"),
}
"""cloud-hypervisor's VmState (vmm/src/vm.rs), and what it means."""


def _request(place: Place, endpoint: str, body: dict[str, object] | None = None, timeout: float = 10) -> Http:
    return Http(api_socket(place), endpoint, body, timeout=timeout)


def api_socket(place: Place) -> Path:
    return place.run / "ch.sock"


def events(place: Place, launch: Launch) -> Path:
    """The file has the VM's name in its own name, so that `ps` shows the VM's name."""
    return place.logs / f"{launch.name}.events.json"


def _settled(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The events without those that follow the beginning of a reboot, if the reboot is not over.

    During a reboot the VM is shut down and booted again. It must not look like a VM that was never booted."""
    for index in range(len(found) - 1, -1, -1):
        if found[index] == ("vm", "rebooted"):
            break
        if found[index] == ("vm", "rebooting"):
            return found[: index + 1]
    return found


def _last_events(file: Path) -> list[tuple[str, str]]:
    """(source, event) of the last events. The file has JSON objects over several lines, with a blank line between them
    (cloud-hypervisor: docs/api.md)."""
    try:
        text = read_end(file)
    except OSError:
        return []
    found = []
    for part in text.split("\n\n"):
        try:
            one = json.loads(part)
            found.append((str(one["source"]), str(one["event"])))
        except (ValueError, KeyError, TypeError, RecursionError):
            # The first object is cut where we began to read, and the last may be half written.
            continue
    return found


def _net_sockets(machine: Machine) -> list[str]:
    return [str(machine.place.run / f"net{index}.sock") for index in range(len(machine.vm.nets))]


def _passt(machine: Machine) -> list[str]:
    """Shell lines that start passt(1) for each net. passt goes to the background once its socket is there, and survives
    a reboot of the guest. Without a unit, whose end also ends passt, a line waits for the end of the VMM."""
    lines = []
    for index, socket in enumerate(_net_sockets(machine)):
        pid = machine.place.run / f"net{index}.pid"
        port = machine.launch.ssh_port if index == 0 else None
        words = ["passt", "--vhost-user", "--socket", socket, "--pid", str(pid), "--no-map-gw", "--quiet"]
        words += ["--log-file", str(machine.place.logs / f"net{index}.log")]
        words += ["--tcp-ports", f"127.0.0.1/{port}:22" if port else "none"]
        lines.append(shlex.join(words))
        if machine.launch.unit is None:
            # The pid is read first: at the end of the VMM, the runtime folder may be gone.
            end = 'flock --shared "$record" true; kill "$pid"'
            lines.append(f"pid=$(cat {shlex.quote(str(pid))}); {{ {end}; }} >/dev/null 2>&1 &")
    return lines


@functools.cache
def version(program: str) -> Version:
    """(53, 0). Raises HostError if the program does not run, ConfigError if it does not print its version."""
    said = run_now(Command((program, "--version"), timeout=20)).stdout
    hit = re.search(r"v(\d+)\.(\d+)", said)
    if hit is None:
        raise ConfigError(
            f"{program} does not say its version: {said.strip()!r}", hint=f"install cloud-hypervisor: {_WHERE}"
        )
    return int(hit[1]), int(hit[2])


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def find_firmware(wanted: str | None, arch: Arch) -> Path:
    """Raises ConfigError."""
    places = [wanted] if wanted else arch.ch_firmware
    for place in places:
        if Path(place).is_file():
            return Path(place)
    raise ConfigError(
        f"no firmware for {PROGRAM}: images with a boot loader need it; looked for {', '.join(places)}",
        hint="get CLOUDHV.fd from https://github.com/cloud-hypervisor/edk2/releases (Debian: the package "
        "cloudhv-efi-x86-64), and give its path with `firmware =` in the template",
    )
