"""One host: its configuration, its folders, and how plans are applied to it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from virshle import log
from virshle.config.paths import Paths, find_paths
from virshle.errors import HostError, NotFoundError
from virshle.exec.process import Process, running
from virshle.fs import Lock, explained
from virshle.plan import Apply, Plan, Progress, Silent, Step, run
from virshle.store import Entry, Layout, Store, tidy
from virshle.store.layout import command_log
from virshle.vmm.driver import record

if TYPE_CHECKING:
    from virshle.config.load import Config
    from virshle.model.vm import Vm

__all__ = ["Entry", "Node"]


@dataclass(frozen=True)
class Node:
    paths: Paths
    dry_run: Callable[[str], None] | None = None
    """Is given each step as shell, and nothing is done."""
    progress: Progress = field(default_factory=Silent)

    @classmethod
    def here(cls, *, dry_run: Callable[[str], None] | None = None, progress: Progress | None = None) -> Node:
        """This host, with the folders of who calls."""
        return cls(find_paths(), dry_run, progress or Silent())

    @functools.cached_property
    def config(self) -> Config:
        """Read when it is first needed: listing, stopping or deleting VMs wants none of it. Raises ConfigError."""
        # Costs more than most commands take.
        from virshle.config.load import load

        config = load(self.paths)
        for warning in config.warnings:
            log.warn(warning)
        return config

    @property
    def layout(self) -> Layout:
        return Layout(self.paths)

    @property
    def store(self) -> Store:
        return Store(self.layout)

    def apply(self) -> Apply:
        return Apply(dry_run=self.dry_run, progress=self.progress)

    def plan(self, vm: Vm, *steps: Step, folder: Path | None = None) -> Plan:
        """A phase of one VM's, kept in its command log."""
        return Plan(vm.name, steps, journal=command_log(folder or self.layout.vm(vm.uuid)))

    def folders(self, apply: Apply) -> None:
        """Makes the state folders that are missing."""
        missing = [folder for folder in self.layout.folders() if not folder.is_dir()]
        if missing:
            apply(Plan("state", [run("make virshle's folders", "mkdir", "-p", "-m", "0700", *missing)]))
            apply.commit()

    @contextmanager
    def registry(self, apply: Apply) -> Iterator[None]:
        """Holds the lock under which names and numbers are given and taken, and tidies first."""
        self.folders(apply)
        if not self.layout.vms.is_dir():
            yield  # a dry run on a fresh host
            return
        with explained("work on the VMs"), Lock(self.layout.vms, patience=30):
            plan, locks = tidy(self.store)
            try:
                apply(plan)
            finally:
                for lock in locks:
                    lock.release()
            yield

    @contextmanager
    def locked(self, entry: Entry, apply: Apply) -> Iterator[Entry]:
        """The VM as it is once nobody else works on it. Raises ConflictError, or NotFoundError if it went."""
        try:
            with explained(f"work on {entry.name}"):
                lock = Lock(entry.folder)
        except HostError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise _went(entry) from None
            raise
        apply.hold(lock)
        # It may have been renamed away between opening and locking.
        if not lock.still(entry.folder):
            raise _went(entry)
        yield self.store.entry(entry.uuid)

    def process(self, uuid: UUID) -> Process | None:
        """The VM's process, if it runs."""
        return running(record(self.layout.run(uuid)))


def _went(entry: Entry) -> NotFoundError:
    return NotFoundError(f"{entry.name} was deleted in the meantime", hint="`v ls` lists what is there")
