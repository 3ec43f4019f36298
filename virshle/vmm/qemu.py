"""The QEMU driver. It uses KVM if KVM works, else software emulation."""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from virshle.errors import ConfigError, ConflictError, VirshleError
from virshle.exec import Command, find_program
from virshle.exec import run as run_now
from virshle.exec.run import missing
from virshle.model.arch import Arch, host_arch
from virshle.plan import Call, Gone, Replies, Step, Wait, run, whole
from virshle.rpc import Qmp, Vsock
from virshle.vmm.account import may_open, own_path
from virshle.vmm.button import presses
from virshle.vmm.driver import ANSWER_SECONDS, Choice, Launch, Machine, Place, Terminal, Told, Vmm
from virshle.vmm.kvm import kvm_problem, kvm_vcpus

if TYPE_CHECKING:
    from virshle.model.vm import FirmwareBoot, KernelBoot, Vm

READY_PORT = "org.virshle.ready.0"
"""The virtio-serial port on which a guest says that it is ready."""
VSOCK = Path("/dev/vhost-vsock")
_STATES = {
    "running": Told("running"),
    "paused": Told("paused"),
    "io-error": Told(
        "paused", "QEMU paused it: a disk of the host is full or fails", "make room (df -h), then: v resume"
    ),
    "suspended": Told("paused", "its guest sleeps (ACPI S3)", "to wake it: v resume"),
    "watchdog": Told("paused", "its watchdog ran out, and QEMU paused it", "to resume it: v resume"),
    "prelaunch": Told("paused", "QEMU waits before it begins the guest (-S)", "to begin it: v resume"),
    "debug": Told("paused", "a debugger stopped it"),
    "inmigrate": Told("paused", "QEMU waits for its guest to arrive from another host"),
    "finish-migrate": Told("paused", "its guest is moving to another host"),
    "postmigrate": Told("paused", "its guest has moved to another host"),
    "save-vm": Told("paused", "its state is being saved"),
    "restore-vm": Told("paused", "its state is being restored"),
    "colo": Told("paused", "its state is being copied (COLO)"),
    "preconfig": Told("starting", "QEMU waits to be configured (--preconfig)"),
    "shutdown": Told("starting", "its guest is off, but QEMU still runs (-no-shutdown)", "to boot it again: v start"),
    "guest-panicked": Told("crashed", "its guest panicked, but QEMU still runs", "to end it: v stop --force"),
    "internal-error": Told("crashed", "QEMU cannot run it any more (internal-error)", "to end it: v stop --force"),
}
"""QEMU's RunState (QEMU: qapi/run-state.json; `preconfig` is of 3.0 to 5.2), and what it means. If the host has no room
for a write of the guest, QEMU pauses the guest by default: werror=enospc (qemu(1), -drive)."""


@dataclass(frozen=True)
class Qemu:
    name: str = "qemu"

    def available(self, user: str | None) -> str:
        arch = host_arch()
        program = find_program(arch.qemu)
        if program is None:
            raise missing(arch.qemu)
        return own_path(program, user)

    def most_vcpus(self, user: str | None) -> int | None:
        arch = host_arch()
        bound = arch.emulated_vcpus if kvm_problem(arch, user) else kvm_vcpus()
        known = [most for most in (board_vcpus(self.available(user), arch.machine), bound) if most is not None]
        return min(known, default=None)

    def choose(self, vm: Vm, user: str | None) -> Choice:
        program = self.available(user)
        if vm.boot.kind == "firmware":
            find_firmware(host_arch())
        problem = kvm_problem(host_arch(), user)
        return Choice(
            hypervisor=self.name,
            program=program,
            version=version(program),
            accelerator="tcg" if problem else "kvm",
            why=problem or "/dev/kvm is usable",
            # Without a net, vsock is the only way from the host into the guest.
            cid=None if vm.nets or not _vsock_works(user) else _cid(vm),
        )

    def vmm(self, machine: Machine) -> Vmm:
        place = machine.place
        return Vmm(
            argv=arguments(machine, host_arch()),
            output=place.vmm_log,
            stale=(socket(place),),
            # A guest that is paused or sleeps does not notice the button. If the guest runs, the first two requests
            # change nothing.
            power_button=presses(
                *(Qmp(socket(place), command) for command in ("cont", "system_wakeup", "system_powerdown"))
            ),
            made=(_console(place)[0],),
        )

    def prepare(self, machine: Machine, *, blind: bool = False) -> list[Step]:
        return [*_variables(machine, blind), *_console_steps(machine.place)]

    def boot(self, machine: Machine) -> list[Step]:
        place = machine.place
        return [
            Wait(
                # QEMU's socket listens before its devices are made. Only an answer shows that QEMU started well.
                "QEMU to run the guest",
                Replies(_status(place, timeout=10, quiet=True), '"status"'),
                timeout=ANSWER_SECONDS,
                fatal=Gone(place.record),
                logs=(place.vmm_log,),
                hint="its log is shown above; the command is in `v logs VM --commands`",
            ),
        ]

    def power_button(self, place: Place, timeout: float) -> Step:
        return Call("press the power button", Qmp(socket(place), "system_powerdown", timeout=timeout))

    def pause(self, place: Place) -> Step:
        return Call("pause the VM", Qmp(socket(place), "stop"))

    def resume(self, place: Place) -> Step:
        if self.state(place, None) == _STATES["suspended"]:
            # In this state `cont` does nothing and reports no error (QEMU: monitor/qmp-cmds.c, qmp_cont).
            return Call("wake its guest", Qmp(socket(place), "system_wakeup"))
        return Call("resume the VM", Qmp(socket(place), "cont"))

    def state(self, place: Place, launch: Launch | None) -> Told:
        try:
            status = _status(place).send().get("status")
        except VirshleError as error:
            return Told("unknown", error.message)
        return _STATES.get(str(status)) or Told("unknown", f"QEMU says that its state is {str(status)[:40]!r}")

    def ended_well(self, place: Place, launch: Launch) -> bool:
        return not os.path.lexists(_pid_file(place))

    def console(self, place: Place) -> Terminal:
        typed, _ = _console(place)
        if not typed.is_fifo():
            raise ConflictError(
                f"its console takes no input: {typed} is missing (was the VM started by hand?)",
                hint="`v logs VM -f` shows the output; stop and start the VM to get a console with input",
            )
        return Terminal(typed, "fifo")

    def vsock(self, place: Place, cid: int, port: int) -> Vsock:
        return Vsock(cid, port)

    def notify_socket(self, place: Place) -> Path | None:
        return None


def _variables(machine: Machine, blind: bool) -> list[Step]:
    boot, folder = machine.vm.boot, machine.place.folder
    if boot.kind == "kernel" or ((folder / boot.variables).exists() and not blind):
        return []
    _, empty = find_firmware(host_arch())
    target = folder / boot.variables
    part = target.with_name(f".{target.name}.part")
    unless = ("sh", "-c", '[ -e "$0" ] || "$@"', target) if blind else ()
    return [
        run("copy an empty store of UEFI variables", *unless, "cp", "--no-preserve=mode,ownership", "--", empty, part),
        *whole(part, target, *unless),
    ]


def _vsock_works(user: str | None) -> bool:
    return VSOCK.exists() and may_open(user, VSOCK)


def _cid(vm: Vm) -> int:
    """A number made from the uuid, because no other guest of the host may have it. 0, 1, 2 and the highest number are
    reserved (vsock(7))."""
    return 3 + vm.uuid.int % (2**32 - 5)


def _pid_file(place: Place) -> Path:
    """QEMU removes this file only when it ends in an orderly way (qemu(1), -pidfile)."""
    return place.logs / "qemu.pid"


def _status(place: Place, *, timeout: float = 1, quiet: bool = False) -> Qmp:
    return Qmp(socket(place), "query-status", timeout=timeout, quiet=quiet)


def socket(place: Place) -> Path:
    return place.run / "qmp.sock"


@functools.cache
def version(program: str) -> str:
    """`7.2.22`. Raises HostError if the program does not run."""
    said = run_now(Command((program, "--version"), timeout=20)).stdout
    hit = re.search(r"version (\d+(?:\.\d+)+)", said)
    return hit[1] if hit else "unknown"


@functools.cache
def board_vcpus(program: str, machine: str) -> int | None:
    """The most processors of QEMU's board. QEMU prints that number if it is asked for too many (QEMU 7.2:
    hw/core/machine-smp.c). None if it prints no number. Raises HostError if the program does not run."""
    argv = (program, "-machine", f"{machine},accel=tcg", "-smp", "100000", "-display", "none", "-nodefaults")
    said = run_now(Command(argv, timeout=20), check=False).stderr
    hit = re.search(r"max CPUs supported by machine '[^']*' is (\d+)", said)
    return int(hit[1]) if hit else None


def find_firmware(arch: Arch) -> tuple[Path, Path]:
    """UEFI's code and the empty store of its variables. Raises ConfigError."""
    places = [(Path(code), Path(variables)) for code, variables in arch.firmware]
    if program := find_program(arch.qemu):
        share = Path(program).resolve().parents[1] / "share/qemu"
        places.append((share / arch.bundled[0], share / arch.bundled[1]))
    for code, variables in places:
        if code.exists() and variables.exists():
            return code, variables
    package = "ovmf" if arch.name == "x86_64" else "qemu-efi-aarch64"
    raise ConfigError(
        "this VM boots with UEFI firmware, and there is no UEFI firmware for QEMU on this machine",
        hint=f"install it (Debian: apt-get install {package})",
    )


def _value(text: str | Path) -> str:
    """In QEMU's key=value lists, a comma in a value is written twice."""
    return str(text).replace(",", ",,")


def arguments(machine: Machine, arch: Arch) -> tuple[str, ...]:
    """QEMU's whole command line. It is a pure function, except that it looks for the firmware files."""
    vm, launch = machine.vm, machine.launch
    kvm = launch.accelerator == "kvm"
    board = [arch.machine, f"accel={launch.accelerator}"]
    boot, extra = _boot(vm.boot, machine, arch)
    return (
        launch.program,
        *("-name", f"guest={vm.name}"),
        *("-uuid", str(vm.uuid)),
        *("-machine", ",".join([*board, *extra])),
        *("-cpu", "host" if kvm else "max"),
        *("-smp", str(vm.vcpu)),
        *("-m", f"{vm.memory >> 20}M"),
        *("-no-user-config", "-nodefaults", "-display", "none", "-msg", "timestamp=on", "-rtc", "base=utc"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *boot,
        *_disks(machine),
        *_nets(machine),
        *("-device", "virtio-rng-pci"),
        *("-device", "virtio-balloon-pci,deflate-on-oom=on,free-page-reporting=on"),
        *_serial(machine),
        *_vsock(launch),
        *("-qmp", f"unix:{_value(socket(machine.place))},server=on,wait=off"),
        *("-pidfile", str(_pid_file(machine.place))),
    )


def _boot(boot: KernelBoot | FirmwareBoot, machine: Machine, arch: Arch) -> tuple[list[str], list[str]]:
    """The arguments for the boot, and the properties of the board."""
    folder = machine.place.folder
    if boot.kind == "kernel":
        files = ["-kernel", str(folder / boot.kernel), "-initrd", str(folder / boot.initrd)]
        return [*files, "-append", boot.cmdline], []
    code, _ = find_firmware(arch)
    arguments = [
        *_blockdev("code", code, readonly=True),
        *_blockdev("variables", folder / boot.variables, readonly=False),
    ]
    return arguments, ["pflash0=code", "pflash1=variables"]


def _blockdev(node: str, path: Path, *, readonly: bool, **more: Any) -> list[str]:
    file = {"driver": "file", "filename": str(path), "discard": "unmap"}
    return [
        "-blockdev",
        json.dumps({"driver": "raw", "node-name": node, "read-only": readonly, "file": file, **more}),
    ]


def _disks(machine: Machine) -> list[str]:
    words = []
    for index, disk in enumerate(machine.vm.disks):
        node = f"disk{index}"
        words += _blockdev(node, machine.place.folder / disk.file, readonly=disk.readonly, discard="unmap")
        # -kernel's own boot entry has index 0. virtio-blk has serial numbers of at most 20 bytes.
        words += ["-device", f"virtio-blk-pci,drive={node},bootindex={index + 1},serial={disk.name[:20]}"]
    words += _blockdev("seed", machine.place.seed, readonly=True)
    return [*words, "-device", "virtio-blk-pci,drive=seed,serial=seed"]


def _nets(machine: Machine) -> list[str]:
    words = []
    for index, net in enumerate(machine.vm.nets):
        forward = machine.launch.ssh_port if index == 0 else None
        user = f"user,id=net{index}" + (f",hostfwd=tcp:127.0.0.1:{forward}-:22" if forward else "")
        # No option ROM: virshle boots nothing from the network, and the file of the ROM may not be installed.
        words += ["-netdev", user, "-device", f"virtio-net-pci,netdev=net{index},mac={net.mac},romfile="]
    return words


def _vsock(launch: Launch) -> list[str]:
    return [] if launch.cid is None else ["-device", f"vhost-vsock-pci,guest-cid={launch.cid}"]


def _console(place: Place) -> tuple[Path, Path]:
    """The two files of QEMU's pipe, named as QEMU expects: the input of the console, and its output."""
    return place.run / "console.in", place.run / "console.out"


def _console_steps(place: Place) -> list[Step]:
    typed, said = _console(place)
    return [
        run("remove the last run's console", "rm", "-f", "--", typed, said),
        run("make a pipe for the input of its console", "mkfifo", "-m", "0600", "--", typed),
        # The output goes only to the log, which nothing can block. With a socket, a client that does not read stops the
        # guest's console after about 280 bytes (tried with 7.2).
        run("send the output of its console only to the log", "ln", "-s", "--", "/dev/null", said),
    ]


def _serial(machine: Machine) -> list[str]:
    pipe, log = _value(machine.place.run / "console"), _value(machine.place.console_log)
    return [
        *("-chardev", f"pipe,id=console,path={pipe},logfile={log},logappend=on", "-serial", "chardev:console"),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"file,id=ready,path={_value(machine.place.ready)}"),
        *("-device", f"virtserialport,chardev=ready,name={READY_PORT}"),
    ]
