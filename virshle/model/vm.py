"""The definition of a VM: the data of vm.json. Nothing here changes while the VM runs."""

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
"""Text that can be part of a command or of a script."""

Hypervisor = Literal["auto", "cloud-hypervisor", "qemu"]
Ready = Literal["guest", "ssh"]


PublicKey = Annotated[
    str,
    Field(max_length=LONGEST),
    written_as(r"(ssh|ecdsa|sk)-[^\x00-\x1f\x7f]+", "must be one line of a .pub file, as in ssh-ed25519 AAAA... me"),
]
"""One line of an authorized_keys file. The keys of a new VM are checked closely (`public_key`). This check is loose: a
bad key in the vm.json of an existing VM must not make that VM broken."""


def _inside(path: str) -> str:
    """A path that is relative to the VM's folder and stays inside it, whatever vm.json says."""
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
    """The file that it was cloned from. None if the disk began empty."""


class Net(Strict):
    name: FileName
    type: Literal["user"]
    mac: Annotated[str, written_as(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", "must be a MAC, as in 02:00:00:00:00:01")]


class KernelBoot(Strict):
    """Direct boot: the VMM loads the kernel and the initrd. Both are in the VM's folder."""

    kind: Literal["kernel"] = "kernel"
    kernel: Inside
    initrd: Inside
    cmdline: Annotated[str, written_as(r"[^\x00\n]*", "must be one line, without a NUL character")]


class FirmwareBoot(Strict):
    """UEFI finds the boot loader on the first disk."""

    kind: Literal["firmware"] = "firmware"
    variables: Inside
    """The VM's own store of UEFI variables. QEMU writes it."""
    firmware: Text | None = None
    """cloud-hypervisor's firmware file. None: search the usual places."""


class Pin(Strict):
    """The exact flake that built an image. The same flake gives the same store path."""

    flake: Text
    """The flake reference that the user gave, as an absolute path."""
    locked: Text
    """The flake reference that gives Nix exactly the same flake. If the flake had uncommitted changes, it is Nix's copy
    of the flake, if Nix can read that copy."""
    attribute: Text
    nar_hash: Text | None = None
    revision: Text | None = None
    """None if the flake is not in version control, or had uncommitted changes."""
    dirty: bool = False
    """The flake had uncommitted changes when the image was built."""

    @property
    def installable(self) -> str:
        return f"{self.locked}#{self.attribute}"

    @property
    def exact(self) -> bool:
        """True if `locked` gives exactly the same flake. It does not if it names a folder with uncommitted changes."""
        return not self.dirty or self.locked.startswith("path:")

    @property
    def short(self) -> str:
        """For lists: the beginning of the revision or of the hash, and `-dirty` if there were uncommitted changes."""
        name = self.revision or (self.nar_hash or "").removeprefix("sha256-")
        return f"{name[:12]}{'-dirty' if self.dirty else ''}"


class Origin(Strict):
    """The source of the VM's first disk."""

    image: Text | None = None
    """The name of the image. None for a plain file."""
    source: Text
    """A flake reference, or a path."""
    store_path: Text | None = None
    pin: Pin | None = None
    """None if no flake was built."""
    derivation: Text | None = None
    """Nix's derivation. It gives that store path again while Nix keeps it. Nix keeps it as long as the image."""

    @property
    def rebuild(self) -> tuple[str, ...]:
        """The command that builds the store path again. Empty if Nix did not build it."""
        if self.pin is not None and self.pin.exact:
            return ("nix", "build", self.pin.installable)
        return ("nix-store", "--realise", self.derivation) if self.derivation else ()


LOGIN = r"[a-z_][a-z0-9_-]{0,31}"
Login = Annotated[
    str, written_as(LOGIN, "must be a user name: 1 to 32 of a-z, 0-9, _ and -; it must not begin with a digit or -")
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
    """What shows that the VM is ready: a message of the guest, or an answer of its ssh server."""
    login: Login = "root"
    """The user `v ssh` logs in as."""
    account: UUID | None = None
    """A tag that selects VMs."""
    authorized_keys: tuple[PublicKey, ...] = ()
    """The keys of the user `login`."""
    users: tuple[User, ...] = ()
    """Further users. Some guests do not create them."""
    cloud_config: Annotated[Text, Field(max_length=LONGEST_CLOUD_CONFIG)] | None = None
    """The caller's text for the guest's cloud-init, unchanged."""
