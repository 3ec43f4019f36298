"""Which hypervisor runs a VM."""

from __future__ import annotations

from virshle.errors import ConfigError
from virshle.vmm.driver import Driver, Launch
from virshle.vmm.qemu import Qemu


def choose_driver(wanted: str) -> Driver:
    """For a VM that is to be made or started. Raises ConfigError for one that is not there."""
    if wanted == "cloud-hypervisor":
        raise ConfigError(
            "virshle cannot drive cloud-hypervisor yet", hint='use hypervisor = "qemu" or "auto" in the template'
        )
    return Qemu()


def driver_of(launch: Launch | None) -> Driver:
    """For a VM that runs: what it runs on, whatever its template wishes."""
    return _DRIVERS[launch.hypervisor if launch and launch.hypervisor in _DRIVERS else "qemu"]


_DRIVERS: dict[str, Driver] = {"qemu": Qemu()}
