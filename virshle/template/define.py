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
    """What a disk is cloned from, as it was found."""

    path: Path | None
    """None for an empty disk."""
    size: int
    """Bytes; of an empty disk, those it shall have."""
    described: str
    """Flake reference or path, for people."""
    image: str | None = None
    foreign: bool = False
    """Of a guest that knows nothing of virshle, and so cannot say when it is ready."""
    store_path: str | None = None
    pin: Pin | None = None
    derivation: str | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    cmdline: str = ""
    takes: frozenset[str] | None = None
    """What of the seed its guest takes; None where that is not known."""


def unsupported_nets(template: VmTemplate) -> None:
    """Raises ConfigError where a net would be left out: a VM never boots without one of its nets."""
    for net in template.net:
        if net.type.kind not in SUPPORTED_NETS:
            raise ConfigError(
                f"net {net.name!r} is of type {net.type.kind}, which virshle cannot make yet",
                hint=f'use type = "user" (the net types it can make: {", ".join(SUPPORTED_NETS)})',
            )


def disk_size(disk: DiskTemplate, source: Source) -> int:
    """Bytes the VM's disk shall have."""
    return max(disk.size or 0, source.size)


@dataclass(frozen=True)
class Identity:
    """What is chosen for one VM before anything is planned."""

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
    """`sources`: one for each disk of the template, in its order; the first is booted. `firmware`: absolute. Raises
    ConfigError where what was found cannot be written down, such as a kernel's command line of two lines."""
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
            f"no VM can be made of {first.described}", details=explain(error, Vm), hint="look at what is in that image"
        ) from error


def _boot(source: Source, firmware: Path | None) -> KernelBoot | FirmwareBoot:
    if source.kernel is None:
        return FirmwareBoot(variables="boot/efivars.fd", firmware=str(firmware) if firmware else None)
    return KernelBoot(kernel="boot/kernel", initrd="boot/initrd", cmdline=source.cmdline)
