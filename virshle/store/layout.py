"""The paths of the folders and files. This module does not read them."""

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
        """The folder of all VMs. Its lock is the registry's lock, which is held while names and numbers change."""
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
        """Links to the configuration files that use images."""
        return self.paths.state / "config"

    def folders(self) -> tuple[Path, ...]:
        """The folders that must exist before anything is made."""
        return (self.vms, self.names, self.ids, self.images, self.configs, self.keys)

    def check_state(self) -> None:
        """Raises ConfigError if one of the folders is something else, such as a file."""
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
        """The folder of all runtime folders, for VMs that start from now on."""
        return self.paths.run / "vm"

    def run(self, uuid: UUID) -> Path:
        """The runtime folder of the next run. The last run may have another one: see `virshle.store.run_folder`."""
        return self.runs / run_name(uuid)

    def former_runs(self, uuid: UUID) -> list[Path]:
        """Folders in which an older virshle may have made the VM's sockets. It did not write down which one it used."""
        return [folder / "vm" / run_name(uuid) for folder in self.paths.former]

    def check_sockets(self) -> None:
        """The check before a VM is made or started. Raises ConfigError if the folder of sockets cannot exist, or if a
        socket's path would be too long."""
        check_folder(self.runs, "VIRSHLE_RUN_DIR")
        if not fits_sockets(self.paths.run):
            raise ConfigError(
                f"{self.paths.run} is too long for sockets: the path of a socket has at most {SOCKET_PATH_LIMIT} bytes",
                hint="set VIRSHLE_RUN_DIR to a shorter path",
            )

    def image(self, name: str) -> Path:
        return self.images / name


def link_target(uuid: UUID) -> str:
    """The target of a VM's links in `name/` and `id/`."""
    return f"../vm/{uuid}"


def run_link(folder: Path) -> Path:
    """A link in a VM's folder. It leads to the folder with the sockets of the last run."""
    return folder / "run"


def is_run_of(uuid: UUID, folder: Path) -> bool:
    """True if the folder has the name of that VM's runtime folder."""
    return folder.is_absolute() and folder.parts[-2:] == ("vm", run_name(uuid))


def definition(folder: Path) -> Path:
    return folder / "vm.json"


LARGEST = 2**22
"""The largest vm.json, in bytes. virshle never writes a larger one."""


WRITTEN_LOCKED = ("vm.json", "launch.json", "vmm.sh")
"""Files in a VM's folder that are written atomically by the process that holds the VM's lock."""


def command_log(folder: Path) -> Path:
    """This log is not in the folder of the VMM's logs, because another user may own that folder."""
    return folder / "commands.log"


def image_link(folder: Path) -> Path:
    """A link in an image's folder: the GC root of the built image."""
    return folder / "result"


def known_hosts(folder: Path) -> Path:
    return folder / "known_hosts"
