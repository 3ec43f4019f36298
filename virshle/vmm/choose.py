"""Chooses the hypervisor that runs a VM."""

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
"""Every VMM gives a VM this many processors. A VMM's own limit is only read if the VM wants more."""


def check_hypervisor(wanted: str, user: str | None, vcpu: int = 1) -> None:
    """The check before a VM is made. Raises ConfigError if no hypervisor on this host can run the VM."""
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
    """`auto` takes cloud-hypervisor if it can run this VM. If not, it takes QEMU and notes the reason.

    `user`: the user that runs the VMM. Raises ConfigError."""
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
    """If QEMU cannot run the VM either, the error also says why cloud-hypervisor cannot."""
    try:
        yield
    except VirshleError as error:
        error.details.append(f"cloud-hypervisor cannot run it either: {problem.message}")
        raise


def driver_of(launch: Launch | None, place: Place) -> Driver:
    """The driver of a VM that runs. launch.json names the hypervisor, which may differ from the template's. If it does
    not, for example because the VM was started by hand, the sockets show the hypervisor."""
    if launch is not None and launch.hypervisor in _DRIVERS:
        return _DRIVERS[launch.hypervisor]
    return listening(place) or _DRIVERS["qemu"]


def listening(place: Place) -> Driver | None:
    """The driver whose VMM made its socket in this place. The VMM may have ended."""
    sockets = {"cloud-hypervisor": api_socket(place), "qemu": socket(place)}
    return next((_DRIVERS[name] for name, path in sockets.items() if path.exists()), None)
