"""Run one command in a new VM, and then delete the VM."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from virshle import log
from virshle.errors import TimedOutError, VirshleError
from virshle.exec import attached, on_terminal
from virshle.model.vm import Vm
from virshle.plan import uninterrupted
from virshle.service.carry import (
    Carried,
    DidNotComeError,
    check_places,
    fetch_steps,
    fetched,
    look_through,
    pack,
    place_steps,
    send_step,
    sent,
)
from virshle.service.create import Order, create
from virshle.service.lifecycle import delete
from virshle.service.node import Node
from virshle.service.ready import wait_ready
from virshle.service.show import emulated
from virshle.service.ssh import pin_steps, ssh_command
from virshle.service.start import start


@dataclass(frozen=True)
class Job:
    template: str
    words: Sequence[str]
    """The command. A single word is run by the guest's shell; several words are the command and its arguments."""
    into: Sequence[str] = ()
    """Each SRC or SRC:DST."""
    out: Sequence[str] = ()
    keep: bool = False
    timeout: float = 120.0
    """Seconds that the VM may take to be ready."""
    user_data: Sequence[Path] = ()


def run(node: Node, job: Job) -> int:
    """Returns the exit code of the command. The VM is always deleted at the end, except with `keep`, or if a result of
    the command could not be copied out of it. Raises UsageError, NotFoundError, ConflictError, and what `create`,
    `start` and `wait_ready` raise."""
    into, out = [sent(word) for word in job.into], [fetched(word) for word in job.out]
    if node.dry_run is None:
        check_places(out)
    (vm,) = create(node, Order(job.template, user_data=job.user_data))
    if node.dry_run is not None:
        ways = [f"copy {one.here} to {one.there}" for one in into], [f"copy {one.there} to {one.here}" for one in out]
        node.dry_run("\n# then: ".join(["", "start it and wait", *ways[0], "run it by ssh", *ways[1], "delete it"])[1:])
        return 0
    held: list[Carried] = []
    try:
        log.note(f"created {vm.name} ({vm.id}) from {vm.template}")
        code = _inside(node, vm, job, into)
        held += out
        _fetch_all(node, vm, out, held, failed=code != 0)
        return code
    finally:
        _let_go(node, vm, held, keep=job.keep)


def _let_go(node: Node, vm: Vm, held: Sequence[Carried], *, keep: bool) -> None:
    """`held`: results of the command that are only in the VM."""
    for one in held:
        log.note(f"{one.there} is only in {vm.name}; to copy it: v ssh {vm.name} {quote(pack(one))} | tar -xf -")
    if keep or held:
        log.note(f"kept {vm.name}; to delete it: v delete --force {vm.name}")
        return
    with uninterrupted():
        delete(node, node.store.entry(vm.uuid), force=True)
    log.note(f"deleted {vm.name}")


def _inside(node: Node, vm: Vm, job: Job, into: Sequence[Carried]) -> int:
    began = time.monotonic()
    launch = start(node, node.store.entry(vm.uuid), listen=True).launch
    if slow := emulated(launch):
        log.warn(f"VMs run by {slow}")
    try:
        wait_ready(node, vm, job.timeout, listened=True, launch=launch)
    except TimedOutError as error:
        error.hint = "give it more time: --timeout SECONDS; or keep the VM to look into it: --keep"
        raise
    log.note(f"{vm.name} is ready after {time.monotonic() - began:.1f} s")
    ssh = ssh_command(node, vm)
    with node.apply() as apply:
        apply(node.plan(vm, *pin_steps(node, vm)))
        for one in into:
            apply(node.plan(vm, send_step(ssh, one)))
        apply.commit()
    return attached(ssh_command(node, vm, job.words, options=["-t"] if on_terminal() else []))


def _fetch_all(node: Node, vm: Vm, out: Sequence[Carried], held: list[Carried], *, failed: bool) -> None:
    """Copies each of `out`, and removes from `held` what was copied. A result that is missing because the command
    failed is removed too: it is no second failure. All copies are tried. Then the first error is raised, but not if
    the command failed: its exit code says more."""
    errors: list[VirshleError] = []
    for one in out:
        try:
            _fetch(node, vm, one)
        except VirshleError as error:
            error.message = f"{one.there} was not copied out: {error.message}"
            if failed or errors:
                log.warn("\n".join([error.message, *(f"  {line}" for line in error.details)]))
            errors.append(error)
            if not (failed and isinstance(error, DidNotComeError)):
                continue
        held.remove(one)
    if errors and not failed:
        raise errors[0]


def _fetch(node: Node, vm: Vm, what: Carried) -> None:
    with node.apply() as apply:
        came, steps = fetch_steps(ssh_command(node, vm), what)
        apply(node.plan(vm, *steps))
        look_through(came)
        apply(node.plan(vm, *place_steps(came, what)))
        apply.commit()
