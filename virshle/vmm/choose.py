"""Which hypervisor runs a VM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from virshle.errors import ConfigError, VirshleError
from virshle.vmm.cloud_hypervisor import CloudHypervisor, api_socket
from virshle.vmm.driver import Choice, Driver, Launch, Place
from virshle.vmm.qemu import Qemu, socket

if TYPE_CHECKING:
    from virshle.model.vm import Vm

_DRIVERS: dict[str, Driver] = {driver.name: driver for driver in (CloudHypervisor(), Qemu())}


EVERY_VMM = 128
"""As many processors as every VMM gives a VM; which gives more is asked only of those who want more."""


def check_hypervisor(wanted: str, user: str | None, vcpu: int = 1) -> None:
    """Before a VM is made. Raises ConfigError where nothing on this host could run it."""
    if wanted != "auto":
        _able(_DRIVERS[wanted], user, vcpu)
        return
    try:
        _able(CloudHypervisor(), user, vcpu)
    except VirshleError as problem:
        with _nor(problem):
            _able(Qemu(), user, vcpu)


def _able(driver: Driver, user: str | None, vcpu: int) -> None:
    driver.available(user)
    if vcpu <= EVERY_VMM:
        return
    most = driver.most_vcpus(user)
    if most is not None and vcpu > most:
        raise ConfigError(
            f"{driver.name} gives a VM at most {most} processors on this host, not {vcpu}", hint="make vcpu smaller"
        )


def choose(vm: Vm, user: str | None) -> Choice:
    """`auto` takes cloud-hypervisor wherever it can run this VM, and says why where it cannot. `user`: the VMM's.
    Raises ConfigError."""
    if vm.hypervisor != "auto":
        return _choose(_DRIVERS[vm.hypervisor], vm, user)
    try:
        return _choose(CloudHypervisor(), vm, user)
    except VirshleError as problem:
        with _nor(problem):
            return replace(_choose(Qemu(), vm, user), instead=problem.message)


def _choose(driver: Driver, vm: Vm, user: str | None) -> Choice:
    _able(driver, user, vm.vcpu)
    return driver.choose(vm, user)


@contextmanager
def _nor(problem: VirshleError) -> Iterator[None]:
    """Where the second cannot either, what was wrong with the first is told too."""
    try:
        yield
    except VirshleError as error:
        error.details.append(f"nor can cloud-hypervisor run it: {problem.message}")
        raise


def driver_of(launch: Launch | None, place: Place) -> Driver:
    """For a VM that runs: what it runs on, whatever its template wishes; where that was not noted, as with one started
    by hand, its sockets tell."""
    if launch is not None and launch.hypervisor in _DRIVERS:
        return _DRIVERS[launch.hypervisor]
    return listening(place) or _DRIVERS["qemu"]


def listening(place: Place) -> Driver | None:
    """The driver whose VMM has made its socket there, or had."""
    sockets = {"cloud-hypervisor": api_socket(place), "qemu": socket(place)}
    return next((_DRIVERS[name] for name, path in sockets.items() if path.exists()), None)
