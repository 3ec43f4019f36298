"""Names of the folders and files, and nothing read from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from uuid import UUID

from virshle.config.paths import SOCKET_PATH_LIMIT, Paths, fits_sockets
from virshle.errors import ConfigError
from virshle.fs import check_folder
from virshle.model.names import run_name


@dataclass(frozen=True)
class Layout:
    paths: Paths

    @cached_property
    def vms(self) -> Path:
        """Its lock is the registry's: held while names and numbers are given and taken."""
        return self.paths.state / "vm"

    @cached_property
    def names(self) -> Path:
        return self.paths.names

    @cached_property
    def ids(self) -> Path:
        return self.paths.state / "id"

    @cached_property
    def images(self) -> Path:
        return self.paths.images

    @cached_property
    def keys(self) -> Path:
        return self.paths.state / "key"

    @cached_property
    def configs(self) -> Path:
        """Links to the configurations by which images are used."""
        return self.paths.state / "config"

    def folders(self) -> tuple[Path, ...]:
        """All that must be there before anything is made."""
        return (self.vms, self.names, self.ids, self.images, self.configs, self.keys)

    def check_state(self) -> None:
        """Raises ConfigError where something else than folders is there."""
        for folder in self.folders():
            check_folder(folder, "VIRSHLE_STATE_DIR")

    def vm(self, uuid: UUID) -> Path:
        return self.vms / str(uuid)

    def staged(self, uuid: UUID) -> Path:
        """A VM that is being made."""
        return self.vms / f".new-{uuid}"

    def leaving(self, uuid: UUID) -> Path:
        """A VM that is being deleted."""
        return self.vms / f".del-{uuid}"

    def name(self, name: str) -> Path:
        return self.names / name

    def id(self, number: int) -> Path:
        return self.ids / str(number)

    @cached_property
    def runs(self) -> Path:
        """The runtime folders of VMs that are started from now on are in it."""
        return self.paths.run / "vm"

    def run(self, uuid: UUID) -> Path:
        """For the sockets of its next run. Those of the last one may be elsewhere: see `virshle.store.run_folder`."""
        return self.runs / run_name(uuid)

    def former_runs(self, uuid: UUID) -> list[Path]:
        """Where an older virshle may have made its sockets, which noted nowhere where that was."""
        return [folder / "vm" / run_name(uuid) for folder in self.paths.former]

    def check_sockets(self) -> None:
        """For who makes or starts VMs. Raises ConfigError where there can be no folder of sockets, or the path of one
        would be too long."""
        check_folder(self.runs, "VIRSHLE_RUN_DIR")
        if not fits_sockets(self.paths.run):
            raise ConfigError(
                f"{self.paths.run} is too long for sockets: the path of one ends at {SOCKET_PATH_LIMIT} bytes",
                hint="set VIRSHLE_RUN_DIR to a shorter one",
            )

    def image(self, name: str) -> Path:
        return self.images / name


def link_target(uuid: UUID) -> str:
    """What a name's and a number's link hold."""
    return f"../vm/{uuid}"


def run_link(folder: Path) -> Path:
    """In a VM's folder, a link to where the sockets of its last run are."""
    return folder / "run"


def is_run_of(uuid: UUID, folder: Path) -> bool:
    """Whether a folder has the name of that VM's runtime folder."""
    return folder.is_absolute() and folder.parts[-2:] == ("vm", run_name(uuid))


def definition(folder: Path) -> Path:
    return folder / "vm.json"


LARGEST = 2**22
"""Bytes of a vm.json that are read; more is not one of ours."""


WRITTEN_LOCKED = ("vm.json", "launch.json", "vmm.sh")
"""Files of a VM's folder that are written, atomically, by who holds its lock."""


def command_log(folder: Path) -> Path:
    """Not among the VMM's logs, whose folder is not always ours."""
    return folder / "commands.log"


def image_link(folder: Path) -> Path:
    """In an image's folder, the GC root of what was built."""
    return folder / "result"


def known_hosts(folder: Path) -> Path:
    return folder / "known_hosts"
