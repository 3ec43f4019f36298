"""What this host can do, each with the line that mends it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from virshle.errors import VirshleError
from virshle.exec import find_program
from virshle.exec.run import PACKAGES
from virshle.model.arch import Arch, host_arch
from virshle.nix import find_nix
from virshle.service.node import Node
from virshle.store import tidy
from virshle.vmm.kvm import kvm_problem
from virshle.vmm.qemu import find_firmware, version


@dataclass(frozen=True)
class Check:
    name: str
    ok: Literal["yes", "limited", "no"]
    found: str
    remedy: str = ""


def examine(node: Node) -> list[Check]:
    arch = host_arch()
    return [
        *_programs(arch),
        _kvm(arch),
        _guarded("UEFI firmware", lambda: str(find_firmware(arch)[0]), "limited"),
        _guarded("nix", lambda: _nix(node), "limited"),
        *_folders(node),
        *_vms(node),
        *_leftovers(node),
        *(Check("configuration", "limited", warning) for warning in node.config.warnings),
    ]


def _guarded(name: str, look: Callable[[], str], otherwise: Literal["limited", "no"]) -> Check:
    try:
        return Check(name, "yes", look())
    except VirshleError as error:
        return Check(name, otherwise, error.message, error.hint)


def _programs(arch: Arch) -> Iterator[Check]:
    needed = (arch.qemu, "ssh", "ssh-keygen", "mkfs.vfat", "mcopy", "flock", "setsid", "cp", "truncate", "find")
    for name in needed:
        if find_program(name) is None:
            remedy = f"apt-get install {PACKAGES.get(name, name)} (Debian; or your system's package of it)"
            yield Check(name, "no", "missing", remedy)
        elif name == arch.qemu:
            yield _guarded(name, lambda: f"version {version(arch.qemu)}", "no")
    if find_program("socat") is None:
        remedy = "apt-get install socat (Debian)"
        yield Check("socat", "limited", "missing: the requests to VMMs that are shown cannot be pasted", remedy)
    missing = [name for name in needed if find_program(name) is None]
    if not missing:
        yield Check("host programs", "yes", ", ".join(needed[1:]))


def _kvm(arch: Arch) -> Check:
    problem = kvm_problem(arch)
    if not problem:
        return Check("KVM", "yes", "/dev/kvm is usable")
    found = f"{problem}; VMs run by software emulation, many times slower"
    return Check("KVM", "limited", found, "use a machine with hardware virtualisation, and join group kvm")


def _nix(node: Node) -> str:
    nix = find_nix(node.paths.state / "nix")
    return f"{'.'.join(map(str, nix.version))}, builds go to {nix.store}"


def _folders(node: Node) -> Iterator[Check]:
    for name, path in (("state", node.paths.state), ("runtime", node.paths.run)):
        here = path
        while not here.exists():
            here = here.parent
        if os.access(here, os.W_OK):
            yield Check(f"{name} folder", "yes", str(path) if here == path else f"{path} (not made yet)")
        else:
            variable = "VIRSHLE_STATE_DIR" if name == "state" else "VIRSHLE_RUN_DIR"
            yield Check(f"{name} folder", "no", f"{here} may not be written", f"export {variable}=A_FOLDER_OF_YOURS")


def _vms(node: Node) -> Iterator[Check]:
    entries = node.store.entries()
    broken = 0
    for entry in entries:
        try:
            entry.whole()
        except VirshleError as error:
            broken += 1
            yield Check(f"VM {entry.name}", "no", error.message, error.hint)
    running = sum(node.process(entry.uuid) is not None for entry in entries)
    yield Check("VMs", "yes", f"{len(entries) - broken} whole, {running} of them running")


def _leftovers(node: Node) -> Iterator[Check]:
    left, locks = tidy(node.store)
    for lock in locks:
        lock.release()
    for step in [*left.links.steps, *(step for plan in left.folders for step in plan.steps)]:
        yield Check("leftover", "limited", f"{step.why}: {step.shell()}", "the next command that changes VMs does it")
