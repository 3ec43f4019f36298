"""Many VMs by one command each."""

from __future__ import annotations

import json
import os

from tests.box.box import ON_CLOUD_HYPERVISOR, Box

MANY = """
[[template.vm]]
name = "small"
vcpu = 1
vram = "96MiB"
hypervisor = "{hypervisor}"
[[template.vm.disk]]
name = "os"
image = "tiny"
size = "1GiB"
"""
_SECONDS = 3600
"""For many guests that boot at once on one processor that is emulated."""


def count(box: Box) -> int:
    """As many as `VIRSHLE_TEST_LOAD` says: 30 take half an hour where the box is emulated."""
    emulated = box.run("grep -q 'QEMU TCG' /proc/cpuinfo", code=None).returncode == 0
    return int(os.environ.get("VIRSHLE_TEST_LOAD", 3 if emulated else 30))


@ON_CLOUD_HYPERVISOR
def test_many_are_made_started_stopped_and_deleted(box: Box, hypervisor: str) -> None:
    box.configure(hypervisor, MANY.format(hypervisor=hypervisor))
    wanted = count(box)
    told = box.v("create", "-t", "small", "many", "-n", str(wanted), "--start", timeout=_SECONDS)
    names = [f"many-{number}" for number in range(1, wanted + 1)]
    assert told.stdout.split() == names
    assert {row["name"]: row["state"] for row in box.ls()} == dict.fromkeys(names, "running")
    assert box.services() == {f"virshle-vm-{name}.service": "active" for name in names}
    box.v("start", "--all", "--wait", "--timeout", f"{_SECONDS}", timeout=_SECONDS)
    box.v("stop", "--all", "--timeout", "900", timeout=_SECONDS)
    assert {row["name"]: row["state"] for row in box.ls()} == dict.fromkeys(names, "stopped")
    box.v("delete", "--all", "--yes", timeout=_SECONDS)
    assert box.ls() == []
    assert box.services() == {}
    assert box.run("find /var/lib/virshle/{vm,name,id} /run/virshle/vm -mindepth 1").stdout == ""
    told_of = [
        row for row in json.loads(box.v("doctor", "--format", "json", code=None).stdout) if row["area"] == "state"
    ]
    assert [(row["name"], row["found"]) for row in told_of] == [("VMs", "0 whole, 0 of them running")]
