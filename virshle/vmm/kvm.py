"""Whether this machine runs guests by hardware."""

from __future__ import annotations

import os
from pathlib import Path

from virshle.model.arch import Arch


def kvm_problem(arch: Arch, device: Path = Path("/dev/kvm"), cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Empty where it does, else why not.

    A device that opens is no proof: on a cloud machine /dev/kvm may be there while the processor's
    virtualisation is not, and then no ordinary guest runs.
    """
    if not device.exists():
        return f"{device} is not there"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device} may not be opened by this user (is it in group kvm?)"
    if arch.cpu_flags:
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")]
        if not set(" ".join(lines[:1]).split()).intersection(arch.cpu_flags):
            return f"{device} is there, but the processor shows none of {', '.join(arch.cpu_flags)}"
    return ""
