"""One table of everything that depends on the machine's architecture."""

from __future__ import annotations

import os
from dataclasses import dataclass

from virshle.errors import ConfigError


@dataclass(frozen=True)
class Arch:
    name: str
    qemu: str
    """QEMU's program for this architecture."""
    machine: str
    """QEMU's machine type."""
    cpu_flags: tuple[str, ...]
    """One of these flags in /proc/cpuinfo shows that KVM runs ordinary guests. Empty: there is no such test."""
    firmware: tuple[tuple[str, str], ...]
    """UEFI for QEMU (code, variable store), in search order. The code must be as large as the board's flash, so the
    4M builds come first."""
    bundled: tuple[str, str]
    """The UEFI files that are part of QEMU, in share/qemu beside its program. A Nix store has only these."""
    ch_firmware: tuple[str, ...]
    """UEFI for cloud-hypervisor, which needs a special build (cloud-hypervisor/edk2), in search order. The last is
    rust-hypervisor-firmware, which boots fewer images."""
    debian: str
    """Debian's name of the architecture."""
    nix: str
    ch_vcpus: int = 255
    """cloud-hypervisor's limit, from v48 on (cloud-hypervisor: vmm/src/config.rs, MAX_SUPPORTED_CPUS)."""
    emulated_vcpus: int | None = None
    """QEMU's limit without KVM. None: the limit of its board applies."""


_EDK2 = "/usr/share/edk2"
_NIXOS = "/run/libvirt/nix-ovmf"

ARCHES = {
    "x86_64": Arch(
        name="x86_64",
        qemu="qemu-system-x86_64",
        machine="q35",
        cpu_flags=("vmx", "svm"),
        firmware=(
            ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
            ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
            (f"{_EDK2}/ovmf/OVMF_CODE.fd", f"{_EDK2}/ovmf/OVMF_VARS.fd"),
            (f"{_EDK2}/x64/OVMF_CODE.4m.fd", f"{_EDK2}/x64/OVMF_VARS.4m.fd"),
            (f"{_NIXOS}/OVMF_CODE.fd", f"{_NIXOS}/OVMF_VARS.fd"),
        ),
        bundled=("edk2-x86_64-code.fd", "edk2-i386-vars.fd"),
        ch_firmware=(
            "/usr/share/cloud-hypervisor/CLOUDHV.fd",
            "/usr/local/share/cloud-hypervisor/CLOUDHV.fd",
            "/usr/share/cloudhv-efi-x86-64/CLOUDHV.fd",
            "/run/current-system/sw/FV/CLOUDHV.fd",
            "/usr/share/cloud-hypervisor/hypervisor-fw",
            "/usr/local/share/cloud-hypervisor/hypervisor-fw",
        ),
        debian="amd64",
        nix="x86_64-linux",
        ch_vcpus=8192,
        # "requires kernel irqchip and X2APIC API support" (QEMU 7.2: hw/i386/pc.c, pc_machine_done).
        emulated_vcpus=255,
    ),
    "aarch64": Arch(
        name="aarch64",
        qemu="qemu-system-aarch64",
        machine="virt",
        cpu_flags=(),
        firmware=(
            ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
            (f"{_EDK2}/aarch64/QEMU_EFI-pflash.raw", f"{_EDK2}/aarch64/vars-template-pflash.raw"),
            (f"{_NIXOS}/AAVMF_CODE.fd", f"{_NIXOS}/AAVMF_VARS.fd"),
        ),
        bundled=("edk2-aarch64-code.fd", "edk2-arm-vars.fd"),
        ch_firmware=(
            "/usr/share/cloud-hypervisor/CLOUDHV_EFI.fd",
            "/usr/local/share/cloud-hypervisor/CLOUDHV_EFI.fd",
            "/run/current-system/sw/FV/CLOUDHV_EFI.fd",
        ),
        debian="arm64",
        nix="aarch64-linux",
    ),
}


def host_arch() -> Arch:
    """Raises ConfigError on a machine that virshle does not know."""
    machine = os.uname().machine
    if machine not in ARCHES:
        raise ConfigError(
            f"virshle runs on {' and '.join(ARCHES)}, not on {machine}",
            hint="use a machine with one of these architectures",
        )
    return ARCHES[machine]
