"""Checks if this machine can run guests with KVM."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from virshle.model.arch import Arch
from virshle.vmm.account import may_open


def kvm_problem(
    arch: Arch, user: str | None = None, device: Path = Path("/dev/kvm"), cpuinfo: Path = Path("/proc/cpuinfo")
) -> str:
    """Why `user` (None: the caller) cannot use KVM. Empty if KVM works.

    A device that opens is not enough: a cloud machine may have /dev/kvm but a processor without virtualisation. No
    ordinary guest runs then.
    """
    if not device.exists():
        return f"{device} is not there"
    if arch.cpu_flags:
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")]
        if not set(" ".join(lines[:1]).split()).intersection(arch.cpu_flags):
            return f"{device} is there, but the processor shows none of {', '.join(arch.cpu_flags)}"
    if not may_open(user, device):
        return f"{device} may not be opened by {user or 'this user'} (is it in group kvm, and {device} of that group?)"
    return ""


def kvm_module(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The kernel's module for this processor. Empty if the processor shows neither vmx nor svm."""
    flags = " ".join(line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")).split()
    return "kvm_intel" if "vmx" in flags else "kvm_amd" if "svm" in flags else ""


_CHECK_EXTENSION, _MAX_VCPUS = 0xAE03, 66
"""linux/kvm.h: KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS."""


def kvm_vcpus(device: Path = Path("/dev/kvm")) -> int | None:
    """The most processors that this kernel gives one VM. None if the kernel cannot be asked."""
    try:
        handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return fcntl.ioctl(handle, _CHECK_EXTENSION, _MAX_VCPUS) or None
    except OSError:
        return None
    finally:
        os.close(handle)
