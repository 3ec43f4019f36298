from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.unit.support import KEY, uuid_of
from virshle.config.schema import VmTemplate
from virshle.errors import ConfigError
from virshle.model.names import mac_address
from virshle.model.vm import FirmwareBoot, KernelBoot, User, Vm
from virshle.template import Identity, Source, define, disk_size, unsupported_nets

WEB = Identity(uuid_of("web"), 7, "web")
NOW = datetime(2024, 5, 6, 7, 8, 9, 123456, UTC)
KERNEL = Source(
    Path("/nix/store/x/disk.raw"),
    2**20,
    ".#tiny",
    image="tiny",
    store_path="/nix/store/x",
    kernel=Path("/nix/store/x/kernel"),
    initrd=Path("/nix/store/x/initrd"),
    cmdline="console=ttyS0",
)
FILE = Source(Path("/img.raw"), 2**30, "/img.raw")
EMPTY = Source(None, 2**31, "empty")


def _template(**changes: Any) -> VmTemplate:
    data: dict[str, Any] = {"name": "t", "vcpu": 3, "vram": "1GiB", "disk": [{"name": "os", "image": "tiny"}]}
    return VmTemplate.model_validate(data | changes)


def _define(template: VmTemplate, *sources: Source, **more: Any) -> Vm:
    return define(template, WEB, sources, now=NOW, **more)


def test_a_vm_has_its_templates_sizes_and_its_own_identity() -> None:
    vm = _define(_template(), KERNEL)
    assert (vm.uuid, vm.id, vm.name, vm.template) == (WEB.uuid, 7, "web", "t")
    assert (vm.vcpu, vm.memory, vm.hypervisor, vm.login) == (3, 2**30, "auto", "root")
    assert vm.created == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_an_image_with_a_kernel_is_booted_by_it() -> None:
    vm = _define(_template(), KERNEL)
    assert vm.boot == KernelBoot(kernel="boot/kernel", initrd="boot/initrd", cmdline="console=ttyS0")
    assert (vm.origin.image, vm.origin.source, vm.origin.store_path) == ("tiny", ".#tiny", "/nix/store/x")


def test_any_other_is_booted_by_firmware() -> None:
    vm = _define(_template(disk=[{"name": "os", "path": "/img.raw"}]), FILE)
    assert vm.boot == FirmwareBoot(variables="boot/efivars.fd")
    assert (vm.origin.image, vm.origin.source, vm.origin.store_path) == (None, "/img.raw", None)


def test_only_the_first_disk_is_booted() -> None:
    disks = [{"name": "os", "path": "/img.raw"}, {"name": "more", "image": "tiny"}]
    assert isinstance(_define(_template(disk=disks), FILE, KERNEL).boot, FirmwareBoot)


def test_each_disk_lies_under_its_name_and_is_as_large_as_asked() -> None:
    disks = [
        {"name": "os", "path": "/img.raw", "size": "4GiB"},
        {"name": "same", "path": "/img.raw", "readonly": True},
        {"name": "data", "size": "2GiB"},
    ]
    vm = _define(_template(disk=disks), FILE, FILE, EMPTY)
    assert [(disk.file, disk.size, disk.readonly) for disk in vm.disks] == [
        ("disk/os", 2**32, False),
        ("disk/same", 2**30, True),
        ("disk/data", 2**31, False),
    ]


def test_a_disk_is_never_smaller_than_its_image() -> None:
    small = _template(disk=[{"name": "os", "path": "/x", "size": "1MiB"}]).disk[0]
    assert disk_size(small, FILE) == 2**30


def test_a_source_too_few_is_an_error() -> None:
    disks = [{"name": "os", "path": "/img.raw"}, {"name": "data", "size": "2GiB"}]
    with pytest.raises(ValueError, match="shorter"):
        _define(_template(disk=disks), FILE)


def test_each_net_has_the_mac_that_follows_from_the_uuid() -> None:
    vm = _define(_template(net=[{"name": "a", "type": "user"}, {"name": "b", "type": "user"}]), KERNEL)
    assert [(net.name, net.mac) for net in vm.nets] == [(name, mac_address(WEB.uuid, name)) for name in "ab"]


@pytest.mark.parametrize(
    ("asked", "source", "ready"),
    [(None, KERNEL, "guest"), (None, FILE, "ssh"), ("ssh", KERNEL, "ssh"), ("guest", FILE, "guest")],
)
def test_who_says_that_it_is_ready(asked: str | None, source: Source, ready: str) -> None:
    assert _define(_template(ready=asked), source).ready == ready


def test_keys_users_and_account_are_kept() -> None:
    account, user = UUID(int=5), User(name="ada", authorized_keys=(KEY,))
    vm = _define(_template(user="op"), KERNEL, authorized_keys=[KEY], users=[user], account=account)
    assert (vm.login, vm.authorized_keys, vm.users, vm.account) == ("op", (KEY,), (user,), account)


@pytest.mark.parametrize("kind", ["tap", "macvtap", "vhost"])
def test_a_net_that_cannot_be_made_is_refused_never_left_out(kind: str) -> None:
    nets = [{"name": "ok", "type": "user"}, {"name": "lan", "type": kind}]
    with pytest.raises(ConfigError, match=f"net 'lan' is of type {kind}"):
        unsupported_nets(_template(net=nets))


def test_nets_that_can_be_made_are_accepted() -> None:
    unsupported_nets(_template(net=[{"name": "ok", "type": "user"}]))
    unsupported_nets(_template())
