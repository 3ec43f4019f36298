"""Ready: the guest says so, or its ssh server answers; who waits listens."""

from __future__ import annotations

from virshle.errors import ConflictError
from virshle.model.vm import Vm
from virshle.plan import AnyOf, Call, Condition, Contains, Gone, Greets, GreetsVsock, Step, Wait
from virshle.rpc import Listen, Vsock
from virshle.service.node import Node
from virshle.vmm.choose import driver_of
from virshle.vmm.driver import Driver, Launch, Place, Told
from virshle.vmm.seen import launch_of

_READY = "READY=1"
"""sd_notify(3)."""


def told_of(place: Place) -> Told:
    """What its VMM says of a VM whose process runs."""
    launch = launch_of(place)
    return driver_of(launch, place).state(place, launch)


def listen_steps(driver: Driver, place: Place) -> list[Step]:
    """Before the guest runs. Where the VMM writes down what it says there is nothing to do."""
    socket = driver.notify_socket(place)
    return [Call("listen for what the guest says", Listen(socket, place.ready))] if socket else []


def ready_wait(node: Node, vm: Vm, timeout: float, *, listened: bool, launch: Launch | None = None) -> Wait:
    """What to wait for until it is ready. `listened`: since before it ran; else it may have said all that it has to
    say, and its ssh server tells instead. `launch`: where it is known already; a dry run writes none. Raises
    ConflictError where nothing can say so."""
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
            f"nothing says when {vm.name} is ready: it has no net for ssh, and its template does not say that the "
            "guest tells",
            hint='start it without --wait, or set ready = "guest" in its template',
        )
    hint = f"look at its console: v logs {vm.name}"
    return Wait(why, until, timeout, fatal=Gone(place.record), logs=(place.console_log,), hint=hint)


def said_ready(node: Node, vm: Vm) -> bool:
    """False where it is known that the guest has not: where its VMM writes down what it says."""
    place = node.place(vm.uuid)
    if vm.ready != "guest" or driver_of(launch_of(place), place).notify_socket(place) is not None:
        return True
    return Contains(place.ready, _READY).holds()


def _ssh_greets(launch: Launch | None, place: Place) -> Condition | None:
    if launch is not None and launch.ssh_port is not None:
        return Greets(launch.ssh_port, "SSH-")
    way = vsock_of(launch, place)
    return GreetsVsock(way, "SSH-") if way else None


def vsock_of(launch: Launch | None, place: Place, port: int = 22) -> Vsock | None:
    """The way to a port of the guest's vsock, where it has one."""
    if launch is None or launch.cid is None:
        return None
    return driver_of(launch, place).vsock(place, launch.cid, port)


def wait_ready(node: Node, vm: Vm, timeout: float, *, listened: bool = False, launch: Launch | None = None) -> str:
    """What was waited for. Raises TimedOutError; the VM is left as it is."""
    step = ready_wait(node, vm, timeout, listened=listened, launch=launch)
    with node.apply() as apply:
        apply(node.plan(vm, step))
    return step.why
