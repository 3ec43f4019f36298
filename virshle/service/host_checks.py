"""What is installed on this host, and what its kernel can do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from virshle.disk import file_system, shares_blocks
from virshle.errors import VirshleError
from virshle.exec import Command, find_program, run
from virshle.exec.run import PACKAGES
from virshle.fs import explained
from virshle.model.arch import Arch
from virshle.vmm.account import may_open
from virshle.vmm.ch_config import has
from virshle.vmm.cloud_hypervisor import PROGRAM, CloudHypervisor, find_firmware
from virshle.vmm.kvm import kvm_module, kvm_problem
from virshle.vmm.landlock import landlock_works
from virshle.vmm.qemu import VSOCK, version
from virshle.vmm.qemu import find_firmware as find_qemu_firmware
from virshle.vmm.systemd import systemd_runs


@dataclass(frozen=True)
class Check:
    name: str
    ok: Literal["yes", "limited", "no"]
    found: str
    remedy: str = ""
    area: Literal["host", "state"] = "host"
    """host: what the host has and can do. state: the VMs and images."""


def host_checks(arch: Arch, user: str | None, state: Path) -> Iterator[Check]:
    """`user`: the user that VMMs run as; None: the user who runs v."""
    yield from going_on("host programs", lambda: _programs(arch, user))
    looks: dict[str, Callable[[], list[Check]]] = {
        "KVM": lambda: [_kvm(arch, user)],
        PROGRAM: lambda: [_cloud_hypervisor(user)],
        'hypervisor = "auto"': lambda: [_auto(arch, user)],
        f"firmware for {PROGRAM}": lambda: [_firmware(PROGRAM, lambda: find_firmware(None, arch))],
        "firmware for QEMU": lambda: [_firmware("QEMU", lambda: find_qemu_firmware(arch)[0])],
        "vsock": lambda: [_vsock(user)],
        "VMMs": lambda: [_processes(user)],
        "landlock": lambda: [_landlock()],
        "clones": lambda: [_reflink(state)],
        "Open vSwitch": lambda: [_open_vswitch()],
    }
    for name, look in looks.items():
        yield from going_on(name, look)


def going_on(
    name: str, look: Callable[[], Iterable[Check]], area: Literal["host", "state"] = "host"
) -> Iterator[Check]:
    """Yields what `look` finds. If `look` fails, one line says so, and the other checks go on."""
    try:
        with explained(f"look at {name}"):
            yield from look()
    except VirshleError as error:
        yield Check(name, "no", error.message, error.hint, area)


def _firmware(program: str, find: Callable[[], Path]) -> Check:
    return guarded(f"firmware for {program}", lambda: str(find()), "limited")


def guarded(name: str, look: Callable[[], str], otherwise: Literal["limited", "no"]) -> Check:
    try:
        return Check(name, "yes", look())
    except VirshleError as error:
        return Check(name, otherwise, error.message, error.hint)


def install(program: str) -> str:
    return f"apt-get install {PACKAGES.get(program, program)} (on Debian; else your system's package of it)"


_NEEDED = ("ssh", "ssh-keygen", "mkfs.vfat", "mcopy", "flock", "setsid", "cp", "truncate", "find")
_USEFUL = {
    "socat": "the QEMU requests that v shows cannot be pasted into a shell",
    "curl": f"the {PROGRAM} requests that v shows cannot be pasted into a shell",
    "qemu-img": "only raw images can be imported",
    "passt": f"VMs with a net of type user run on QEMU, not on {PROGRAM}",
}


def _programs(arch: Arch, user: str | None) -> Iterator[Check]:
    if find_program(arch.qemu) is None:
        yield Check(arch.qemu, "limited", f"missing: only {PROGRAM} can run VMs", install(arch.qemu))
    else:
        yield guarded(arch.qemu, lambda: f"version {version(find_program(arch.qemu) or arch.qemu)}", "no")
    needed = (*_NEEDED, "setpriv", "useradd") if user else _NEEDED
    missing = [name for name in needed if find_program(name) is None]
    if "cp" in missing:
        found = f"no folder in it has cp, which every system has: {os.environ.get('PATH', os.defpath)!r}"
        yield Check("PATH", "no", found, "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    for name in missing:
        yield Check(name, "no", "missing", install(name))
    if not missing:
        yield Check("host programs", "yes", ", ".join(needed))
    for name, without in _USEFUL.items():
        if find_program(name) is None:
            yield Check(name, "limited", f"missing: {without}", install(name))


def _kvm(arch: Arch, user: str | None) -> Check:
    problem = kvm_problem(arch, user)
    if not problem:
        return Check("KVM", "yes", "/dev/kvm is usable")
    found = f"{problem}; VMs run by software emulation, which is many times slower"
    if "may not be opened" in problem:
        remedy = f"usermod -aG kvm {user or '$USER'}; chgrp kvm /dev/kvm; chmod 660 /dev/kvm"
        return Check("KVM", "limited", found, remedy)
    module = kvm_module()
    setup = "turn virtualisation (VT-x, AMD-V) on in the firmware setup of the machine; if it is a VM: on its host"
    return Check("KVM", "limited", found, f"modprobe {module}" if module else setup)


def _cloud_hypervisor(user: str | None) -> Check:
    try:
        program, found = CloudHypervisor().available(user)
    except VirshleError as error:
        return Check(PROGRAM, "limited", error.message, error.hint)
    text = f"v{found[0]}.{found[1]}, {program}"
    if not has(found, "CVE-2026-45782 fixed"):
        return Check(PROGRAM, "limited", f"{text}, which has CVE-2026-45782 (virtio-blk)", "install v52 or newer")
    return Check(PROGRAM, "yes", text)


def _auto(arch: Arch, user: str | None) -> Check:
    name = 'hypervisor = "auto"'
    try:
        CloudHypervisor().available(user)
    except VirshleError as error:
        if find_program(arch.qemu) is None:
            return Check(name, "no", f"nothing can run a VM here: neither QEMU nor {PROGRAM}", install(arch.qemu))
        return Check(name, "yes", f"uses QEMU: {error.message}")
    return Check(name, "yes", f"uses {PROGRAM}, and QEMU for VMs that {PROGRAM} cannot run (v info says why)")


def _vsock(user: str | None) -> Check:
    if not VSOCK.exists():
        found = f"{VSOCK} does not exist: no ssh into a VM on QEMU without a net ({PROGRAM} does not need it)"
        return Check("vsock", "limited", found, "modprobe vhost_vsock")
    if not may_open(user, VSOCK):
        found = f"{VSOCK} may not be opened by {user or 'this user'}"
        return Check("vsock", "limited", found, f"chgrp kvm {VSOCK}; chmod 660 {VSOCK}")
    return Check("vsock", "yes", f"{VSOCK} is usable")


def _processes(user: str | None) -> Check:
    whose = f"as {user}" if user else "as you"
    if systemd_runs():
        return Check("VMMs", "yes", f"run {whose}, each in a unit of systemd: systemctl status 'virshle-vm-*'")
    return Check("VMMs", "yes", f"run {whose}, each as its own process")


def _landlock() -> Check:
    if landlock_works():
        return Check("landlock", "yes", f"confines {PROGRAM} to its own files")
    found = f"not in this kernel: {PROGRAM} is not confined to its own files"
    return Check("landlock", "limited", found, "Linux 6.2 or newer, with lsm=landlock,... on its command line")


def _reflink(state: Path) -> Check:
    while not state.exists():
        state = state.parent
    kind = file_system(state)
    if shares_blocks(kind):
        return Check("clones", "yes", f"share blocks with their image ({kind})")
    return Check("clones", "limited", f"full copies, as {state} is on {kind}", "keep the VMs on XFS, btrfs or bcachefs")


def _open_vswitch() -> Check:
    if find_program("ovs-vsctl") is None:
        return Check("Open vSwitch", "yes", "not installed; the nets of virshle do not need it")
    try:
        said = run(Command(("ovs-vsctl", "--timeout=5", "--bare", "get", "open_vswitch", ".", "ovs_version"))).stdout
    except VirshleError as error:
        return Check("Open vSwitch", "limited", error.message, "systemctl start openvswitch-switch")
    return Check("Open vSwitch", "yes", f"version {said.strip().strip(chr(34))}")
