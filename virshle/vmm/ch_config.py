"""The VmConfig for cloud-hypervisor's `vm.create`, and the differences between its versions.

Keys and values are those of its OpenAPI file (vmm/src/api/openapi/cloud-hypervisor.yaml). Sizes are in bytes.
cloud-hypervisor ignores unknown keys, so the tests check every body against the names and types of that file.
"""

from __future__ import annotations

from typing import Any

from virshle.vmm.driver import Machine, Place

Version = tuple[int, int]

OLDEST: Version = (48, 0)
_SINCE: dict[str, Version] = {
    "image_type": (50, 1),  # before, it guesses the type; since then, a guessed raw disk cannot write its first sector
    "system_uuid": (53, 0),  # before, `uuid`
    "lock beside its socket": (53, 0),  # before, a stale socket stops a start
    "CVE-2026-45782 fixed": (52, 0),  # a use after free in virtio-blk
}
"""Each difference, and the first version that has it."""

NOTIFY_PORT = 9000
"""The port of the host on which virshle listens, through the guest's vsock, for the guest's own messages."""
GUEST_CID = 3
"""Any number from 3 on works: cloud-hypervisor's vsock is a socket of this VM alone."""


def has(version: Version, feature: str) -> bool:
    return version >= _SINCE[feature]


def vsock(place: Place) -> str:
    return str(place.run / "vsock")


def notify_socket(place: Place) -> str:
    """The guest's connections to port NOTIFY_PORT of the host (CID 2) arrive at this socket (cloud-hypervisor:
    docs/vsock.md)."""
    return f"{vsock(place)}_{NOTIFY_PORT}"


def vm_config(machine: Machine, version: Version, *, landlock: bool, sockets: list[str]) -> dict[str, Any]:
    """`sockets`: the socket of the vhost-user process of each net, in the VM's order."""
    vm, place, launch = machine.vm, machine.place, machine.launch
    config: dict[str, Any] = {
        "cpus": {"boot_vcpus": vm.vcpu, "max_vcpus": vm.vcpu},
        # Shared, because a vhost-user process reads and writes the guest's memory.
        "memory": {"size": vm.memory, "shared": bool(sockets)},
        "payload": _payload(machine),
        "disks": _disks(machine, version),
        "net": [_net(index, net.mac, socket) for index, (net, socket) in enumerate(zip(vm.nets, sockets, strict=True))],
        "rng": {"src": "/dev/urandom"},
        "balloon": {"size": 0, "deflate_on_oom": True, "free_page_reporting": True},
        # The serial port writes to the VMM's stdout (see CloudHypervisor.vmm). cloud-hypervisor would truncate a file
        # at each reboot.
        "serial": {"mode": "Tty"},
        "console": {"mode": "Pty"},
        "platform": _platform(machine, version),
    }
    if launch.cid is not None:
        config["vsock"] = {"cid": launch.cid, "socket": vsock(place), "id": "vsock"}
    if landlock:
        rules = [(place.folder / "disk", "rw"), (place.run, "rw")]
        config["landlock_enable"] = True
        config["landlock_rules"] = [{"path": str(path), "access": access} for path, access in rules]
    return config


def _payload(machine: Machine) -> dict[str, Any]:
    boot, folder = machine.vm.boot, machine.place.folder
    if boot.kind == "firmware":
        return {"firmware": machine.launch.firmware}
    return {
        "kernel": str(folder / boot.kernel),
        "initramfs": str(folder / boot.initrd),
        "cmdline": boot.cmdline,
    }


def _disks(machine: Machine, version: Version) -> list[dict[str, Any]]:
    files = [
        # virtio-blk has serial numbers of at most 20 bytes.
        {"id": f"disk-{disk.name}", "path": str(machine.place.folder / disk.file), "readonly": disk.readonly,
         "serial": disk.name[:20]}
        for disk in machine.vm.disks
    ]  # fmt: skip
    seed = {"id": "seed", "path": str(machine.place.seed), "readonly": True, "serial": "seed"}
    known = {"image_type": "Raw"} if has(version, "image_type") else {}
    return [{**disk, **known} for disk in (*files, seed)]


def _net(index: int, mac: str, socket: str) -> dict[str, Any]:
    return {"id": f"net{index}", "mac": mac, "vhost_user": True, "vhost_socket": socket, "num_queues": 2}


def _platform(machine: Machine, version: Version) -> dict[str, Any]:
    key = "system_uuid" if has(version, "system_uuid") else "uuid"
    platform: dict[str, Any] = {key: str(machine.vm.uuid)}
    if machine.launch.cid is not None:
        # systemd-creds(1), "vmm.notify_socket". Only x86-64 has SMBIOS.
        platform["oem_strings"] = [f"io.systemd.credential:vmm.notify_socket=vsock-stream:2:{NOTIFY_PORT}"]
    return platform
