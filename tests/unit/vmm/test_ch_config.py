"""Every body that cloud-hypervisor is sent, against the names and types of its OpenAPI file: it ignores a key that it
does not know, so a typo would otherwise be found by nobody."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.unit.support import make_vm
from tests.unit.vmm.test_driver import LAUNCH
from virshle.model.vm import Vm
from virshle.rpc.http import LARGEST
from virshle.vmm.ch_config import NOTIFY_PORT, Version, notify_socket, vm_config
from virshle.vmm.driver import Machine, Place

FACTS = json.loads(Path(__file__).with_name("vm_config_v53.json").read_text())
"""Schema: its properties and their types, as v53's file has them. "@X" is another schema, [T] an array of T."""
PLACE = Place(Path("/s/vm/u"), Path("/r/vm/u"))
VERSIONS: list[Version] = [(48, 0), (50, 0), (50, 1), (52, 0), (53, 0), (60, 2)]


def _type(told: Any) -> dict[str, Any]:
    if isinstance(told, list):
        return {"type": "array", "items": _type(told[0])}
    if told.startswith("@"):
        return {"$ref": f"#/$defs/{told[1:]}"}
    name, _, least = told.partition(">=")
    return {"type": name, **({"minimum": int(least)} if least else {})}


def _schema(facts: dict[str, Any]) -> dict[str, Any]:
    if "enum" in facts:
        return {"enum": facts["enum"]}
    properties = {name: _type(told) for name, told in facts["properties"].items()}
    return {
        "type": "object",
        "required": facts["required"],
        "properties": properties,
        "additionalProperties": False,
    }


CHECKER = jsonschema.Draft202012Validator(
    {"$ref": "#/$defs/VmConfig", "$defs": {name: _schema(facts) for name, facts in FACTS.items()}}
)


def _problems(body: object) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in CHECKER.iter_errors(body)]


KERNEL = {"kind": "kernel", "kernel": "boot/kernel", "initrd": "boot/initrd", "cmdline": "console=ttyS0 é"}
FIRMWARE = {"kind": "firmware", "variables": "boot/efivars.fd"}
DISKS = [
    {"name": "os", "file": "disk/os", "size": 2**30},
    {"name": "x" * 30, "file": f"disk/{'x' * 30}", "size": 1, "readonly": True},
]


def _nets(count: int) -> list[dict[str, str]]:
    return [{"name": f"n{n}", "type": "user", "mac": f"02:00:00:00:00:0{n}"} for n in range(count)]


def _machine(vm: Vm, cid: int | None = 3) -> Machine:
    firmware = "/fw/CLOUDHV.fd" if vm.boot.kind == "firmware" else None
    launch = replace(LAUNCH, hypervisor="cloud-hypervisor", accelerator="kvm", cid=cid, firmware=firmware)
    return Machine(vm, PLACE, launch)


def _config(vm: Vm, version: Version = (53, 0), *, cid: int | None = 3, landlock: bool = True) -> dict[str, Any]:
    sockets = [f"/r/vm/u/net{index}.sock" for index in range(len(vm.nets))]
    return vm_config(_machine(vm, cid), version, landlock=landlock, sockets=sockets)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("boot", [KERNEL, FIRMWARE], ids=["kernel", "firmware"])
def test_every_body_is_one_that_it_knows(boot: dict[str, str], version: Version) -> None:
    for disks, nets, cid, landlock in itertools.product((1, 2), (0, 1, 3), (None, 3), (True, False)):
        vm = make_vm(boot=boot, disks=DISKS[:disks], nets=_nets(nets))
        body = _config(vm, version, cid=cid, landlock=landlock)
        assert _problems(body) == [], body
        assert len(json.dumps(body)) < LARGEST
        # Serde's unit variants, maps and numbers are JSON's own: nothing else would survive the way.
        assert json.loads(json.dumps(body)) == body


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("memroy", {"size": 1}),
        ("memory.sise", 1),
        ("serial.mode", "tty"),
        ("console.mode", "PTY"),
        ("memory.size", "512M"),
        ("cpus.boot_vcpus", 0),
        ("cpus.boot_vcpus", "2"),
        ("cpus.boot_vcpus", True),
        ("vsock.cid", 2),
        ("disks.0.readonly", "on"),
        ("disks.0.image_type", "raw"),
        ("disks.0.read_only", True),
        ("net.0.vhostuser", True),
        ("net.0.num_queues", None),
        ("platform.oem_strings", "one"),
        ("platform.oem_strings.0", 1),
        ("landlock_rules.0.path", 7),
        ("payload.initrd", "/x"),
        ("payload", None),
    ],
)
def test_the_check_itself_finds_what_is_wrong(where: str, value: object) -> None:
    body = _config(make_vm())
    assert _problems(body) == []
    *way, last = where.split(".")
    part: Any = body
    for step in way:
        part = part[int(step)] if step.isdecimal() else part[step]
    if isinstance(part, list):
        part[int(last)] = value
    else:
        part[last] = value
    assert len(_problems(body)) == 1


@pytest.mark.parametrize("key", ["payload", "serial.mode", "vsock.cid", "landlock_rules.0.access", "memory.size"])
def test_the_check_itself_finds_what_is_missing(key: str) -> None:
    body = _config(make_vm())
    *way, last = key.split(".")
    part: Any = body
    for step in way:
        part = part[int(step)] if step.isdecimal() else part[step]
    del part[last]
    assert _problems(body) == [
        f"$.{'.'.join(way)}".rstrip(".").replace(".0", "[0]") + f": '{last}' is a required property"
    ]


def test_every_fact_is_reached_and_there() -> None:
    def named(told: Any) -> list[str]:
        told = told[0] if isinstance(told, list) else told
        return [told[1:]] if told.startswith("@") else []

    used = {name for facts in FACTS.values() for told in facts.get("properties", {}).values() for name in named(told)}
    assert used | {"VmConfig"} == set(FACTS)


def test_what_a_version_does_not_know_is_not_sent_to_it() -> None:
    uuid = str(make_vm().uuid)
    bodies = {version: _config(make_vm(disks=DISKS), version) for version in VERSIONS}
    typed = {
        version for version, body in bodies.items() if all(disk.get("image_type") == "Raw" for disk in body["disks"])
    }
    bare = {version for version, body in bodies.items() if not any("image_type" in disk for disk in body["disks"])}
    assert (typed, bare) == ({(50, 1), (52, 0), (53, 0), (60, 2)}, {(48, 0), (50, 0)})
    renamed = {version for version, body in bodies.items() if body["platform"].get("system_uuid") == uuid}
    before = {version for version, body in bodies.items() if body["platform"].get("uuid") == uuid}
    assert (renamed, before) == ({(53, 0), (60, 2)}, {(48, 0), (50, 0), (50, 1), (52, 0)})


def test_the_vm_is_what_its_definition_says() -> None:
    body = _config(make_vm(vcpu=4, memory=2**32, disks=DISKS))
    assert body["cpus"] == {"boot_vcpus": 4, "max_vcpus": 4}
    assert body["memory"]["size"] == 2**32
    assert body["payload"] == {
        "kernel": "/s/vm/u/boot/kernel",
        "initramfs": "/s/vm/u/boot/initrd",
        "cmdline": "console=ttyS0",
    }
    assert [(disk["id"], disk["path"], disk["readonly"], disk["serial"]) for disk in body["disks"]] == [
        ("disk-os", "/s/vm/u/disk/os", False, "os"),
        (f"disk-{'x' * 30}", f"/s/vm/u/disk/{'x' * 30}", True, "x" * 20),  # virtio-blk has no room for more
        ("seed", "/s/vm/u/disk/.seed", True, "seed"),
    ]
    assert len({disk["id"] for disk in body["disks"]}) == 3


def test_it_boots_by_firmware_alone() -> None:
    assert _config(make_vm(boot=FIRMWARE))["payload"] == {"firmware": "/fw/CLOUDHV.fd"}


@pytest.mark.parametrize(("count", "shared"), [(0, False), (1, True), (2, True)])
def test_each_net_is_a_process_that_shares_the_guests_memory(count: int, shared: bool) -> None:
    body = _config(make_vm(nets=_nets(count)))
    assert body["memory"]["shared"] is shared
    assert [(net["mac"], net["vhost_user"], net["vhost_socket"]) for net in body["net"]] == [
        (f"02:00:00:00:00:0{n}", True, f"/r/vm/u/net{n}.sock") for n in range(count)
    ]


def test_a_net_without_its_process_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="zip"):
        vm_config(_machine(make_vm()), (53, 0), landlock=False, sockets=[])


def test_the_guest_is_told_where_it_may_say_that_it_is_ready() -> None:
    body = _config(make_vm())
    assert body["vsock"] == {"cid": 3, "socket": "/r/vm/u/vsock", "id": "vsock"}
    assert body["platform"]["oem_strings"] == [f"io.systemd.credential:vmm.notify_socket=vsock-stream:2:{NOTIFY_PORT}"]
    assert notify_socket(PLACE) == f"/r/vm/u/vsock_{NOTIFY_PORT}"
    without = _config(make_vm(), cid=None)
    assert "vsock" not in without
    assert "oem_strings" not in without["platform"]


def test_landlock_opens_only_what_is_the_vms_own() -> None:
    body = _config(make_vm())
    assert body["landlock_enable"] is True
    assert body["landlock_rules"] == [
        {"path": "/s/vm/u/disk", "access": "rw"},
        {"path": "/r/vm/u", "access": "rw"},
    ]
    assert not any(key.startswith("landlock") for key in _config(make_vm(), landlock=False))
