"""The shape of the configuration: the keys of the first virshle, and newer ones. Unknown keys are refused.

`unused(...)` marks a key that is read but has no effect. virshle warns if such a key is set.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from virshle.config.problems import maybe
from virshle.model.strict import Strict
from virshle.model.units import format_size, parse_size
from virshle.model.vm import FileName, Hypervisor, Login, Ready, Text
from virshle.model.words import written_as

NET_TYPES = ("user", "tap", "macvtap", "vhost")
LEAST_MEMORY = 2**26

Size = Annotated[int, BeforeValidator(parse_size)]
"""Written as `"2GiB"`, read as bytes."""


def unused(why: str) -> Any:
    """A key that is read and has no effect. `why` is shown in the warning."""
    return Field(default=None, json_schema_extra={"unused": why})


_SERVICE = "there is no node service to use it"


class NodeSection(Strict):
    alias: str | None = unused(_SERVICE)
    private_key: str | None = unused(_SERVICE)
    public_key: str | None = unused(_SERVICE)
    passive: bool | None = unused(_SERVICE)


class PeerSection(Strict):
    alias: str | None = unused(_SERVICE)
    url: str | None = unused(_SERVICE)
    weight: int | None = unused(_SERVICE)
    public_key: str | None = unused(_SERVICE)


class KeaSection(Strict):
    url: str | None = unused("no network that needs a DHCP server is supported yet")
    suffix: str | None = unused("no network that needs a DHCP server is supported yet")


class FakePool(Strict):
    subnet: str | None = unused("no network that needs a DHCP server is supported yet")
    range: tuple[str, str] | None = unused("no network that needs a DHCP server is supported yet")


class FakeSection(Strict):
    pool: dict[str, FakePool] = Field(default_factory=dict)


class DhcpSection(Strict):
    kea: KeaSection | None = None
    fake: FakeSection | None = None


class NetOptions(Strict):
    mac: str | None = unused("the MAC is computed from the VM's uuid")
    ip: str | None = unused("the network assigns the address")


def _net_type(value: object) -> object:
    """`type = "user"` is short for the table `[template.vm.net.type.user]`."""
    types = f"the types are {', '.join(NET_TYPES)}"
    if not isinstance(value, str | dict):
        raise ValueError(f'must be text, as in type = "user"; {types}')
    table = {value: {}} if isinstance(value, str) else value
    for unknown in sorted(table.keys() - NET_TYPES):
        raise ValueError(f"there is no type {unknown!r}; {types}{maybe(str(unknown), NET_TYPES)}")
    return table


class NetTypeTable(Strict):
    """Exactly one of the known types. Each type is a table."""

    user: NetOptions | None = None
    tap: NetOptions | None = None
    macvtap: NetOptions | None = None
    vhost: NetOptions | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"choose exactly one of {', '.join(NET_TYPES)}")
        return self

    @property
    def kind(self) -> str:
        return next(iter(self.model_fields_set))


class NetTemplate(Strict):
    name: FileName
    type: Annotated[NetTypeTable, BeforeValidator(_net_type)]


LocalPath = Annotated[str, Field(min_length=1), written_as(r"[^\x00]*", "must be a path without a NUL character")]
"""`~` is the caller's home. A relative path begins in the folder of the configuration file."""


class DiskTemplate(Strict):
    """`path`: a local raw image to clone. `image`: one of the `[[image]]`s. Neither: an empty disk of `size`."""

    name: FileName
    path: LocalPath | None = None
    image: FileName | None = None
    size: Size | None = None
    readonly: bool = False

    @model_validator(mode="after")
    def _source(self) -> Self:
        if self.path is not None and self.image is not None:
            raise ValueError("choose path or image, not both")
        if self.path is None and self.image is None and self.size is None:
            raise ValueError("the disk needs a source: set path or image, or set size for an empty disk")
        return self


class ExtraSection(Strict):
    inner: Any = unused("nothing reads it")
    autostart: Any = unused("there is no node service to start VMs")


def _enough(memory: int) -> int:
    if memory < LEAST_MEMORY:
        raise ValueError(f"a VM needs at least {format_size(LEAST_MEMORY)} of memory")
    return memory


class VmTemplate(Strict):
    name: FileName
    vcpu: Annotated[int, Field(ge=1, le=1024, strict=True)] = 1
    vram: Annotated[Size, AfterValidator(_enough)] = 2**29
    uuid: str | None = unused("every VM gets a uuid of its own")
    disk: tuple[DiskTemplate, ...] = Field(min_length=1)
    net: tuple[NetTemplate, ...] = ()
    extra: ExtraSection | None = None
    hypervisor: Hypervisor = "auto"
    user: Login = "root"
    """The user that `v ssh` logs in as."""
    firmware: LocalPath | None = None
    """cloud-hypervisor boots a disk that has its own boot loader with this file. Default: search the usual places."""
    ready: Ready | None = None
    """What shows that the VM is ready. Default: the guest's message if the disk is an image, else its ssh server."""

    @model_validator(mode="after")
    def _boots(self) -> Self:
        if self.disk[0].path is None and self.disk[0].image is None:
            raise ValueError("the first disk is empty, so the VM cannot boot; put a disk with path or image first")
        return self


class TemplateSection(Strict):
    vm: tuple[VmTemplate, ...] = ()


_FLAKE = "must be FLAKE#ATTRIBUTE on one line, and must not begin with - or a space"
_ARGUMENT = (
    "must be the name of an argument of the Nix file: letters, digits, _, ' and -; it must not begin with a digit or -"
)


class ImageConfig(Strict):
    """Exactly one source. `nix`: a flake reference. `file`: a Nix file, called with `args`. `path`: a local raw
    disk image. `builtin`: an image that is part of virshle."""

    name: FileName
    nix: Annotated[str, written_as(r"[^-\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*", _FLAKE)] | None = None
    file: LocalPath | None = None
    args: dict[Annotated[str, written_as(r"[A-Za-z_][A-Za-z0-9_'-]*", _ARGUMENT)], Text] = Field(default_factory=dict)
    path: LocalPath | None = None
    builtin: Literal["tiny", "nixos"] | None = None

    @model_validator(mode="after")
    def _source(self) -> Self:
        chosen = [key for key in ("nix", "file", "path", "builtin") if getattr(self, key) is not None]
        if len(chosen) != 1:
            raise ValueError(
                f"choose exactly one of nix, file and path{', not ' + ' and '.join(chosen) if chosen else ''}"
            )
        if self.args and self.file is None:
            raise ValueError("args are only for a Nix file: set `file` too")
        return self

    @property
    def source(self) -> str:
        """For people."""
        return self.nix or self.file or self.path or f"built in: {self.builtin}"


class ConfigFile(Strict):
    node: NodeSection | None = None
    peer: tuple[PeerSection, ...] = ()
    dhcp: DhcpSection | None = None
    template: TemplateSection = Field(default_factory=TemplateSection)
    image: tuple[ImageConfig, ...] = ()
