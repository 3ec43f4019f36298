"""What `v doctor` says of VMs, with a process that is real."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.host.host import Host
from tests.host.test_kill import one_image


def wrong(host: Host) -> list[dict[str, Any]]:
    rows = json.loads(host.v("doctor", "--format", "json", code=None).stdout)
    return [row for row in rows if (row["area"], row["ok"]) == ("state", "no")]


@pytest.mark.heart
def test_a_vmm_whose_vm_went_is_found(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    bare.v("start", "web")
    assert wrong(bare) == []
    (folder,) = (bare.state / "vm").iterdir()
    (pid,) = bare.vmms()
    folder.rename(bare.folder / "away")
    found = {row["name"]: row for row in wrong(bare)}
    assert found.keys() == {f"process {pid}", str(next((bare.run / "vm").iterdir()))}
    assert found[f"process {pid}"]["found"] == "qemu runs for no VM"
    assert bare.v("doctor", code=3).stdout.count("BAD ") >= 2
    (bare.folder / "away").rename(folder)
    bare.check()
    bare.v("delete", "--force", "web")
    bare.check()
