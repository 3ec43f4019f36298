"""When a guest is ready: it says so, or its ssh server answers."""

from __future__ import annotations

from virshle.errors import ConflictError
from virshle.model.vm import Vm
from virshle.plan import AnyOf, Call, Condition, Contains, Gone, Greets, GreetsVsock, Step, Wait
from virshle.rpc import Listen, Vsock
from virshle.service.node import Node
from virshle.vmm.choose import driver_of
from virshle.vmm.driver import Driver, Launch, Place, Told
from virshle.vmm.seen import driver_at, launch_of

_READY = "READY=1"
"""sd_notify(3)."""


def told_of(place: Place) -> Told:
    """The state of a running VM, as its VMM reports it."""
    launch = launch_of(place)
    return driver_of(launch, place).state(place, launch)


def listen_steps(driver: Driver, place: Place) -> list[Step]:
    """Steps before the guest runs. There are none if the VMM itself records what the guest says."""
    socket = driver.notify_socket(place)
    return [Call("listen for what the guest says", Listen(socket, place.ready))] if socket else []


def ready_wait(node: Node, vm: Vm, timeout: float, *, listened: bool, launch: Launch | None = None) -> Wait:
    """The step that waits until the VM is ready. `listened`: v has listened since before the guest ran; if not, the
    guest may have said already that it is ready, and an answer of its ssh server counts too. `launch`: if it is known
    already, as a dry run writes none. Raises ConflictError if nothing can say that the VM is ready."""
    place = node.place(vm.uuid)
    launch = launch or launch_of(place)
    until: Condition
    if vm.ready == "guest":
        why, until = f"{vm.name} to say that it is ready", Contains(place.ready, _READY)
        heard = listened or driver_of(launch, place).notify_socket(place) is None
        if not heard and (way := vsock_of(launch, place)):
            until = AnyOf((until, GreetsVsock(way, "SSH-")))
    elif greets := _ssh_greets(launch, place):
        why, until = f"{vm.name}'s ssh server to answer", greets
    else:
        raise ConflictError(
            f"nothing can say when {vm.name} is ready: it has no net for ssh, and its template does not say that the "
            "guest itself reports it",
            hint='start it without --wait, or set ready = "guest" in its template',
        )
    hint = f"look at its console: v logs {vm.name}"
    return Wait(why, until, timeout, fatal=Gone(place.record), logs=(place.console_log,), hint=hint)


def said_ready(node: Node, vm: Vm) -> bool:
    """False if the guest has not said that it is ready. True also if this is not known: only some VMMs record it."""
    place = node.place(vm.uuid)
    if vm.ready != "guest" or driver_at(place).notify_socket(place) is not None:
        return True
    return Contains(place.ready, _READY).holds()


def _ssh_greets(launch: Launch | None, place: Place) -> Condition | None:
    if launch is not None and launch.ssh_port is not None:
        return Greets(launch.ssh_port, "SSH-")
    way = vsock_of(launch, place)
    return GreetsVsock(way, "SSH-") if way else None


def vsock_of(launch: Launch | None, place: Place, port: int = 22) -> Vsock | None:
    """The way to a port of the guest's vsock; None if the guest has no vsock."""
    if launch is None or launch.cid is None:
        return None
    return driver_of(launch, place).vsock(place, launch.cid, port)


def wait_ready(node: Node, vm: Vm, timeout: float, *, listened: bool = False, launch: Launch | None = None) -> str:
    """Waits, and returns what it waited for. Raises TimedOutError; the VM is then left as it is."""
    step = ready_wait(node, vm, timeout, listened=listened, launch=launch)
    with node.apply() as apply:
        apply(node.plan(vm, step))
    return step.why
