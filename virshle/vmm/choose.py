"""Which hypervisor runs a VM."""

from __future__ import annotations

from virshle.errors import ConfigError
from virshle.vmm.driver import Driver
from virshle.vmm.qemu import Qemu


def choose_driver(wanted: str) -> Driver:
    """Raises ConfigError for one that is not there."""
    if wanted == "cloud-hypervisor":
        raise ConfigError(
            "virshle cannot drive cloud-hypervisor yet", hint='use hypervisor = "qemu" or "auto" in the template'
        )
    return Qemu()
