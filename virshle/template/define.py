"""Makes the definition of one VM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from pydantic import ValidationError

from virshle.config.problems import explain
from virshle.config.schema import DiskTemplate, VmTemplate
from virshle.errors import ConfigError
from virshle.model.names import mac_address
from virshle.model.vm import Disk, FirmwareBoot, KernelBoot, Net, Origin, Pin, User, Vm

SUPPORTED_NETS = ("user",)


@dataclass(frozen=True)
class Source:
    """The source of a disk, as it was found."""

    path: Path | None
    """None for an empty disk."""
    size: int
    """Bytes. For an empty disk, the size of the new disk."""
    described: str
    """Flake reference or path, for people."""
    image: str | None = None
    foreign: bool = False
    """True if the guest knows nothing about virshle and cannot report that it is ready."""
    store_path: str | None = None
    pin: Pin | None = None
    derivation: str | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    cmdline: str = ""
    takes: frozenset[str] | None = None
    """The parts of the seed that its guest uses. None if that is not known."""


def unsupported_nets(template: VmTemplate) -> None:
    """Raises ConfigError for a net that virshle cannot make: a VM never boots without one of its nets."""
    for net in template.net:
        if net.type.kind not in SUPPORTED_NETS:
            raise ConfigError(
                f"net {net.name!r} is of type {net.type.kind}, which virshle cannot make yet",
                hint=f'use type = "user" (virshle can make: {", ".join(SUPPORTED_NETS)})',
            )


def disk_size(disk: DiskTemplate, source: Source) -> int:
    """The size of the VM's disk, in bytes."""
    return max(disk.size or 0, source.size)


@dataclass(frozen=True)
class Identity:
    """The values that are chosen for one VM before planning."""

    uuid: UUID
    id: int
    name: str


def define(
    template: VmTemplate,
    identity: Identity,
    sources: Sequence[Source],
    *,
    authorized_keys: Sequence[str] = (),
    users: Sequence[User] = (),
    account: UUID | None = None,
    cloud_config: str | None = None,
    firmware: Path | None = None,
    now: datetime | None = None,
) -> Vm:
    """`sources`: one for each disk of the template, in the same order. The VM boots the first. `firmware`: an absolute
    path. Raises ConfigError if a value of the image does not fit into vm.json, such as a kernel command line with two
    lines."""
    first = sources[0]
    try:
        return Vm(
            uuid=identity.uuid,
            id=identity.id,
            name=identity.name,
            template=template.name,
            created=(now or datetime.now(UTC)).replace(microsecond=0),
            vcpu=template.vcpu,
            memory=template.vram,
            hypervisor=template.hypervisor,
            boot=_boot(first, firmware),
            disks=tuple(
                Disk(
                    name=disk.name,
                    file=f"disk/{disk.name}",
                    size=disk_size(disk, source),
                    readonly=disk.readonly,
                    source=str(source.path) if source.path else None,
                )
                for disk, source in zip(template.disk, sources, strict=True)
            ),
            nets=tuple(
                Net(name=net.name, type="user", mac=mac_address(identity.uuid, net.name)) for net in template.net
            ),
            origin=Origin(
                image=first.image,
                source=first.described,
                store_path=first.store_path,
                pin=first.pin,
                derivation=first.derivation,
            ),
            ready=template.ready or ("guest" if first.image and not first.foreign else "ssh"),
            login=template.user,
            account=account,
            authorized_keys=tuple(authorized_keys),
            users=tuple(users),
            cloud_config=cloud_config,
        )
    except ValidationError as error:
        raise ConfigError(
            f"{first.described} cannot become a VM", details=explain(error, Vm), hint="check the files of that image"
        ) from error


def _boot(source: Source, firmware: Path | None) -> KernelBoot | FirmwareBoot:
    if source.kernel is None:
        return FirmwareBoot(variables="boot/efivars.fd", firmware=str(firmware) if firmware else None)
    return KernelBoot(kernel="boot/kernel", initrd="boot/initrd", cmdline=source.cmdline)
