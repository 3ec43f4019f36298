"""One host: its configuration, its folders, and how plans are applied to it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING
from uuid import UUID

from virshle import log
from virshle.config.paths import Paths, find_paths
from virshle.errors import ConflictError, HostError, NotFoundError
from virshle.exec.process import Process, running
from virshle.fs import Lock, explained
from virshle.model.names import run_name
from virshle.store import Entry, Layout, Store, run_folder
from virshle.store.layout import command_log
from virshle.store.read import to_own
from virshle.vmm.place import Place

if TYPE_CHECKING:
    from virshle.config.load import Config
    from virshle.model.vm import Vm
    from virshle.plan import Apply, Plan, Progress, Step

# Only commands that change something import the modules that make plans: without them `v ls` takes half as long.

__all__ = ["Entry", "Node"]


@dataclass(frozen=True)
class Node:
    paths: Paths
    dry_run: Callable[[str], None] | None = None
    """If set, it gets each step as a shell command, and nothing is done."""
    progress: Progress | None = None

    @classmethod
    def here(cls, *, dry_run: Callable[[str], None] | None = None, progress: Progress | None = None) -> Node:
        """This host, with the folders of the user who runs v."""
        return cls(find_paths(), dry_run, progress)

    @functools.cached_property
    def config(self) -> Config:
        """Read when it is first needed: to list, stop or delete VMs it is not needed. Raises ConfigError."""
        # The import takes longer than most commands.
        from virshle.config.load import load

        config = load(self.paths)
        if len(config.warnings) > 3:
            log.warn(f"{len(config.warnings)} keys of {self.paths.config} have no effect; `v config check` lists them")
        else:
            for warning in config.warnings:
                log.warn(warning)
        return config

    @functools.cached_property
    def layout(self) -> Layout:
        return Layout(self.paths)

    @property
    def store(self) -> Store:
        return Store(self.layout)

    def apply(self) -> Apply:
        from virshle.plan import Apply

        return Apply(dry_run=self.dry_run, progress=self.progress)

    def plan(self, vm: Vm | Entry, *steps: Step, folder: Path | None = None) -> Plan:
        """A plan for one VM. Its commands are written to the VM's command log."""
        from virshle.plan import Plan

        return Plan(vm.name, steps, journal=command_log(folder or self.layout.vm(vm.uuid)))

    def folders(self) -> None:
        """Makes the state folders that are missing. Raises ConfigError, HostError."""
        missing = [folder for folder in self.layout.folders() if not folder.is_dir()]
        if not missing:
            return
        self.layout.check_state()
        from virshle.plan import Plan, run
        from virshle.vmm.account import vmm_user, ways_above

        with self.apply() as apply:
            try:
                folders = run("make virshle's folders", "mkdir", "-p", "-m", "0700", *missing)
                apply(Plan("state", [*ways_above(vmm_user(), self.paths.state), folders]))
                apply.commit()
            except HostError as error:
                error.hint = "may you write there? VIRSHLE_STATE_DIR chooses another folder"
                raise

    @contextmanager
    def registry(self) -> Iterator[list[Entry]]:
        """Holds the lock for names and numbers, and yields all VMs. First removes what interrupted commands left."""
        self.folders()
        if not self.layout.vms.is_dir():
            yield []  # a dry run on a fresh host
            return
        from virshle.store.change import tidy

        registry = Lock(self.layout.vms, patience=30, told=waiting)
        with ExitStack() as later, explained("work on the VMs"), registry:
            left, locks = tidy(self.store, self.runs)
            # Removed only after the registry is unlocked: this may take long.
            for lock, plan in zip(locks, left.folders, strict=True):
                later.enter_context(lock)
                later.callback(self._remove, plan)
            with self.apply() as apply:
                apply(left.links)
                apply.commit()
            yield left.entries

    def _remove(self, plan: Plan) -> None:
        """Removes what an interrupted command left. If that fails, the work goes on with a warning."""
        try:
            with self.apply() as apply:
                apply(plan)
        except HostError as error:
            log.warn(f"{error.message}: {plan.steps[0].shell()}")

    def hold(self, apply: Apply, folder: Path, *, subject: str | None = None, shared: bool = False) -> bool:
        """Holds the lock of a folder until the end of `apply`. A dry run takes no lock. False if the folder was removed
        while this process waited for the lock."""
        if self.dry_run is not None:
            return True
        patience = 3600 if subject is None else 10
        try:
            lock = Lock(folder, shared=shared, patience=patience, told=waiting)
        except FileNotFoundError:
            return False
        apply.hold(lock, subject)
        return lock.still(folder)

    @contextmanager
    def locked(self, entry: Entry, apply: Apply) -> Iterator[Entry]:
        """Locks the VM and yields its current entry. Raises ConflictError, or NotFoundError if the VM was deleted."""
        try:
            with explained(f"work on {entry.name}"):
                # A link is followed: a VM whose folder was moved while it ran can then still be stopped.
                folder = entry.folder.resolve() if entry.folder.is_symlink() else entry.folder
                lock = Lock(folder, told=waiting)
        except HostError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise _went(entry) from None
            raise
        apply.hold(lock)
        # The folder may have been renamed after it was opened and before it was locked.
        if not lock.still(entry.folder):
            raise _went(entry)
        check_owner(entry, os.fstat(lock.fd).st_uid)
        yield self.store.entry(entry.uuid)

    def runs(self, uuid: UUID) -> bool:
        """True if a process runs that VM, wherever its folder is. Looks at all processes of the host."""
        from virshle.vmm.running import vm_processes

        return any(one.is_run and one.run == run_name(uuid) for one in vm_processes(self.paths))

    def process(self, uuid: UUID) -> Process | None:
        """The VM's process, if it runs."""
        return running(self.place(uuid).record)

    def place(self, uuid: UUID) -> Place:
        """The folder of the VM, and the sockets of its last run."""
        return Place(self.layout.vm(uuid), run_folder(self.layout, uuid))

    def next_place(self, uuid: UUID) -> Place:
        """The place of its next run. Raises ConfigError if sockets cannot be made there."""
        self.layout.check_sockets()
        return Place(self.layout.vm(uuid), self.layout.run(uuid))


def waiting(folder: Path) -> None:
    log.note(f"waiting for another process that works on {folder} (fuser -v {quote(str(folder))} names it)")


def check_owner(entry: Entry, uid: int | None = None) -> None:
    """Call it before anything is written into the VM's folder. Raises ConflictError if another user owns the folder:
    that user could change its files at the same time, even while root works on it. `uid`: the owner, if known."""
    if uid is None:
        uid = entry.folder.stat().st_uid
    if uid != os.getuid():
        raise ConflictError(
            f"{entry.name} is not yours: {entry.folder} belongs to the user with the number {uid}",
            hint=f"to make it yours: {to_own(entry.folder)}",
        )


def _went(entry: Entry) -> NotFoundError:
    return NotFoundError(f"{entry.name} was deleted in the meantime", hint="`v ls` lists the VMs")
