"""`v start`, `v stop`, `v delete`."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

from virshle import log
from virshle.cli.main import show_error
from virshle.cli.options import SECONDS, changing, selecting
from virshle.errors import UsageError, VirshleError
from virshle.fs import allow_locks

if TYPE_CHECKING:
    from uuid import UUID

    from virshle.service.node import Entry, Node
    from virshle.service.select import Selection
    from virshle.service.start import Started


def targets(node: Node, selection: Selection, *, broken: bool = False) -> list[Entry]:
    """The VMs that a verb works on. If many are selected, broken VMs are left out, with a note; not with `broken`."""
    from virshle.service.select import select

    entries = select(node, selection)
    if broken or not selection.bulk:
        return entries
    whole = [entry for entry in entries if entry.summary is not None]
    if left := ", ".join(entry.name for entry in entries if entry.summary is None):
        log.note(f"broken VMs are left out: {left}")
    return whole


def tell_if_none(selection: Selection, entries: Sequence[Entry]) -> None:
    if selection.bulk and not entries:
        log.note("no VM matches: nothing to do")


_DESCRIPTORS = 8
"""File descriptors that may be open for each VM that a verb works on."""


class Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


def each(entries: Sequence[T], act: Callable[[T], None], *, together: bool = False) -> int:
    """Acts on every VM or image and prints each failure. Returns the exit code of the first failure, or 0."""
    failures: list[VirshleError] = []
    bugs: list[Exception] = []

    def attempt(entry: T) -> None:
        try:
            act(entry)
        except VirshleError as error:
            failures.append(error)
            show_error(error, "error" if len(entries) == 1 else f"error: {entry.name}")
        except Exception as bug:
            bugs.append(bug)

    if together and len(entries) > 1:
        allow_locks(_DESCRIPTORS * len(entries))
        # Daemon threads, so that Ctrl-C does not wait for slow guests.
        threads = [threading.Thread(target=attempt, args=(entry,), daemon=True) for entry in entries]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        for entry in entries:
            attempt(entry)
    if bugs:
        raise bugs[0]
    if failures and len(entries) > 1:
        log.note(f"{len(failures)} of {len(entries)} failed")
    return failures[0].exit_code if failures else 0


@click.command(epilog="\b\nExamples:\n  v start web --wait\n  v start --all\n  v start --state stopped")
@selecting
@click.option("--wait", is_flag=True, help="Wait until the guests are ready.")
@click.option("--timeout", type=SECONDS, default=120.0, help="Seconds that --wait waits at most.")
@changing
def start(selection: Selection, wait: bool, timeout: float, node: Node) -> int:
    """Start VMs. A VM that runs is left as it is; a VM that is paused is resumed."""
    entries = targets(node, selection)
    tell_if_none(selection, entries)
    return start_all(node, entries, wait=wait, timeout=timeout)


def _how(name: str, done: Started) -> str:
    if done.before is None:
        return f"started {name}"
    if done.resumed:
        return f"resumed {name}, which was paused"
    if done.before.state == "unknown":
        return f"{name} is running already, but its VMM does not tell its state: {done.before.why}"
    return f"{name} is running already"


def start_all(node: Node, entries: Sequence[Entry], *, wait: bool, timeout: float) -> int:
    """Starts each, then waits for all of them at once."""
    from virshle.service.ready import wait_ready
    from virshle.service.show import emulated
    from virshle.service.start import start as start_vm

    started: list[Entry] = []
    known: dict[UUID, Started] = {}

    def begin(entry: Entry) -> None:
        done = start_vm(node, entry, listen=wait)
        if node.dry_run is None:
            log.note(_how(entry.name, done))
            if not done.already and (slow := emulated(done.launch)):
                log.warn(f"VMs run by {slow}")
        started.append(entry)
        known[entry.uuid] = done

    def ready(entry: Entry) -> None:
        began = time.monotonic()
        done = known[entry.uuid]
        what = wait_ready(node, entry.whole(), timeout, listened=not done.already, launch=done.launch)
        if node.dry_run is None:
            log.note(f"waited {time.monotonic() - began:.1f} s for {what}; next: v ssh {entry.name}")

    code = each(entries, begin)
    if not wait:
        return code
    waited = each(started, ready, together=True)
    return code or waited


@click.command(epilog="\b\nExamples:\n  v stop web\n  v stop --all\n  v stop --force --timeout 5 web")
@selecting
@click.option("--force", is_flag=True, help="Cut the power if a guest does not power off in time.")
@click.option("--timeout", type=SECONDS, default=30.0, help="Seconds that a guest has to power off.")
@changing
def stop(selection: Selection, force: bool, timeout: float, node: Node) -> int:
    """Stop VMs by their power button. Without --force the power is never cut."""
    from virshle.service import lifecycle

    entries = targets(node, selection, broken=True)
    if selection.bulk:
        entries = [entry for entry in entries if lifecycle.may_be_stopped(node, entry)]
    tell_if_none(selection, entries)

    def act(entry: Entry) -> None:
        how = lifecycle.stop(node, entry, force=force, timeout=timeout).how
        if node.dry_run is None:
            log.note(f"{entry.name} is stopped already" if how == "already" else f"stopped {entry.name} {how}")

    return each(entries, act, together=True)


@click.command(epilog="\b\nExamples:\n  v pause web\n  v pause --state running")
@selecting
@changing
def pause(selection: Selection, node: Node) -> int:
    """Pause VMs: their guests stand still and keep their memory."""
    from virshle.service import lifecycle

    return _switch(node, selection, lifecycle.pause, "running", "paused", "paused already")


@click.command(epilog="\b\nExamples:\n  v resume web\n  v resume --all")
@selecting
@changing
def resume(selection: Selection, node: Node) -> int:
    """Resume paused VMs: their guests continue."""
    from virshle.service import lifecycle

    return _switch(node, selection, lifecycle.resume, "paused", "resumed", "running already")


def _switch(
    node: Node, selection: Selection, act: Callable[[Node, Entry], bool], among: str, done: str, already: str
) -> int:
    """If many VMs are selected, `act` is called only for those in the state `among`."""
    from virshle.service.show import state_of

    entries = targets(node, selection, broken=True)
    if selection.bulk:
        entries = [entry for entry in entries if state_of(node, entry) == among]
    tell_if_none(selection, entries)

    def switch(entry: Entry) -> None:
        changed = act(node, entry)
        if node.dry_run is None:
            log.note(f"{done} {entry.name}" if changed else f"{entry.name} is {already}")

    return each(entries, switch, together=True)


@click.command(epilog="\b\nExamples:\n  v delete web\n  v delete --state stopped --yes\n  v delete --all --dry-run")
@selecting
@click.option("--force", is_flag=True, help="Also delete VMs that run (their power is cut) or are broken.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-m", "--mode", type=click.Choice(["soft", "hard"]), hidden=True)
@changing
def delete(selection: Selection, force: bool, yes: bool, mode: str | None, node: Node) -> int:
    """Delete VMs with their disks and logs, for good. On a terminal, v asks first."""
    from virshle.service import lifecycle

    if mode:
        log.warn("--mode has no effect: there is one way to delete")
    entries = targets(node, selection, broken=force and selection.state == "broken")
    tell_if_none(selection, entries)
    if not force:
        # All are checked before the first is deleted.
        lifecycle.check_deletable(node, entries)
    if node.dry_run is None and entries and not yes:
        names = [entry.name for entry in entries]
        if not sys.stdin.isatty() and (selection.bulk or len(names) > 1):
            listed = ", ".join(map(log.printable, names))
            hint = "add --yes if that is what you want"
            raise UsageError(f"this would delete {_count('VM', names)}: {listed}", hint=hint)
        if not confirmed("VM", names):
            return DECLINED

    def act(entry: Entry) -> None:
        name = lifecycle.delete(node, entry, force=force)
        if node.dry_run is None:
            log.note(f"deleted {name}")

    return each(entries, act)


DECLINED = 130
"""The exit code if the user answered no. Ctrl-C, which also says no, has the same."""


def confirmed(noun: str, names: Sequence[str]) -> bool:
    """Asks on a terminal whether to delete them. Without a terminal nothing is asked, and the answer is yes."""
    if not sys.stdin.isatty():
        return True
    listed = ", ".join(map(log.printable, names))
    if click.confirm(f"Delete {_count(noun, names)} for good: {listed}?", err=True):
        return True
    log.note("nothing was deleted")
    return False


def _count(noun: str, names: Sequence[str]) -> str:
    return f"{len(names)} {noun}s" if len(names) > 1 else f"the {noun}"
