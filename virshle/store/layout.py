"""Names of the folders and files, and nothing read from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from uuid import UUID

from virshle.config.paths import Paths
from virshle.errors import ConfigError

SOCKET_PATH_LIMIT = 107
"""Bytes of a unix socket's path (unix(7): sun_path is 108 with its final zero)."""
LONGEST_SOCKET = "console.sock"


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
        """Every VM's runtime folder is in it. Raises ConfigError where its path is too long for sockets."""
        folder = self.paths.run / "vm"
        if len(bytes(folder)) + len("/0123456789ab/") + len(LONGEST_SOCKET) > SOCKET_PATH_LIMIT:
            raise ConfigError(
                f"{self.paths.run} is too long for sockets: the path of one ends at {SOCKET_PATH_LIMIT} bytes",
                hint="set VIRSHLE_RUN_DIR to a shorter one",
            )
        return folder

    def run(self, uuid: UUID) -> Path:
        """For sockets, hence short. Raises ConfigError when it is not."""
        return self.runs / uuid.hex[:12]

    def image(self, name: str) -> Path:
        return self.images / name


def link_target(uuid: UUID) -> str:
    """What a name's and a number's link hold."""
    return f"../vm/{uuid}"


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
