"""The definition of a VM: what vm.json holds, and nothing that changes while it runs."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from virshle.model.names import check_file_name, check_name
from virshle.model.public_key import LONGEST
from virshle.model.strict import Strict
from virshle.model.units import LARGEST
from virshle.model.version import LARGEST_ID, LONGEST_CLOUD_CONFIG, MOST_VCPUS, VERSION
from virshle.model.words import written_as

VmName = Annotated[str, AfterValidator(check_name)]
FileName = Annotated[str, AfterValidator(check_file_name)]

Text = Annotated[str, written_as(r"[^\x00]*", "must not hold a NUL character")]
"""What may be part of a command, or of a script."""

Hypervisor = Literal["auto", "cloud-hypervisor", "qemu"]
Ready = Literal["guest", "ssh"]


PublicKey = Annotated[
    str,
    Field(max_length=LONGEST),
    written_as(r"(ssh|ecdsa|sk)-[^\x00-\x1f\x7f]+", "must be one line of a .pub file, as in ssh-ed25519 AAAA... me"),
]
"""One line of an authorized_keys file. What is given for a new VM is looked at closely (`public_key`); of a VM that is
there no such line is a reason to call it broken."""


def _inside(path: str) -> str:
    """A path in the VM's folder, whatever is in vm.json: never above it, never elsewhere."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts or "\0" in path:
        raise ValueError(f"{path!r} leaves the VM's folder")
    return path


Inside = Annotated[str, AfterValidator(_inside)]


class Disk(Strict):
    name: FileName
    file: Inside
    """Relative to the VM's folder."""
    size: int = Field(gt=0, le=LARGEST)
    """Bytes."""
    readonly: bool = False
    source: Text | None = None
    """What it was cloned from; none for one that began empty."""


class Net(Strict):
    name: FileName
    type: Literal["user"]
    mac: Annotated[str, written_as(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", "must be a MAC, as in 02:00:00:00:00:01")]


class KernelBoot(Strict):
    """Direct boot: the VMM loads kernel and initrd, both in the VM's folder."""

    kind: Literal["kernel"] = "kernel"
    kernel: Inside
    initrd: Inside
    cmdline: Annotated[str, written_as(r"[^\x00\n]*", "must be one line, without a NUL character")]


class FirmwareBoot(Strict):
    """UEFI finds the boot loader on the first disk."""

    kind: Literal["firmware"] = "firmware"
    variables: Inside
    """Its own store of UEFI variables, which QEMU keeps."""
    firmware: Text | None = None
    """cloud-hypervisor's file for it; none: the usual places are searched."""


class Pin(Strict):
    """Exactly which flake an image was built by: the same gives the same store path."""

    flake: Text
    """As it was asked for, absolute."""
    locked: Text
    """The flake reference by which Nix finds the very same; of changes that were not committed, Nix's copy of them
    where Nix can read that."""
    attribute: Text
    nar_hash: Text | None = None
    revision: Text | None = None
    """None where the flake is of no version control, or was changed since."""
    dirty: bool = False
    """Built with changes that were not committed."""

    @property
    def installable(self) -> str:
        return f"{self.locked}#{self.attribute}"

    @property
    def exact(self) -> bool:
        """Whether `locked` gives the very same: a folder in which something was changed does not."""
        return not self.dirty or self.locked.startswith("path:")

    @property
    def short(self) -> str:
        """For lists: the beginning of the revision, else of the hash, and whether there were changes."""
        name = self.revision or (self.nar_hash or "").removeprefix("sha256-")
        return f"{name[:12]}{'-dirty' if self.dirty else ''}"


class Origin(Strict):
    """Where the VM's first disk came from."""

    image: Text | None = None
    """Name of the image; none for a plain file."""
    source: Text
    """A flake reference, or a path."""
    store_path: Text | None = None
    pin: Pin | None = None
    """None where no flake was built."""
    derivation: Text | None = None
    """Nix's, which gives that store path again as long as Nix keeps it: as long as it keeps the image."""

    @property
    def rebuild(self) -> tuple[str, ...]:
        """The command that gives that store path again; empty where Nix did not build it."""
        if self.pin is not None and self.pin.exact:
            return ("nix", "build", self.pin.installable)
        return ("nix-store", "--realise", self.derivation) if self.derivation else ()


LOGIN = r"[a-z_][a-z0-9_-]{0,31}"
Login = Annotated[
    str, written_as(LOGIN, "must be the name of a user: 1 to 32 of a-z, 0-9, _ and -, no digit or - at its beginning")
]
"""The name of a user in a guest."""


class User(Strict):
    name: Login
    authorized_keys: tuple[PublicKey, ...] = ()


class Vm(Strict):
    version: Literal[3] = VERSION
    uuid: UUID
    id: int = Field(gt=0, le=LARGEST_ID)
    name: VmName
    template: Text
    created: datetime
    vcpu: int = Field(ge=1, le=MOST_VCPUS)
    memory: int = Field(gt=0, le=LARGEST)
    """Bytes."""
    hypervisor: Hypervisor = "auto"
    boot: Annotated[KernelBoot | FirmwareBoot, Field(discriminator="kind")]
    disks: tuple[Disk, ...] = Field(min_length=1)
    nets: tuple[Net, ...] = ()
    origin: Origin
    ready: Ready = "guest"
    """Who says that the VM is ready: the guest itself, or its ssh server by answering."""
    login: Login = "root"
    """The user `v ssh` logs in as."""
    account: UUID | None = None
    """A tag to select by."""
    authorized_keys: tuple[PublicKey, ...] = ()
    """For `login`."""
    users: tuple[User, ...] = ()
    """Further users, made by guests that make users at all."""
    cloud_config: Annotated[Text, Field(max_length=LONGEST_CLOUD_CONFIG)] | None = None
    """What the caller has for the guest's cloud-init, as he wrote it."""
