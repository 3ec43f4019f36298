"""What `v doctor` says of VMs, with a process that is real."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.host.host import Host
from tests.host.nobody import nobody
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


def test_of_a_vm_that_runs_nothing_is_harmed_whatever_was_renamed_or_lost(host: Host) -> None:
    """A guest that lives, its folder renamed by hand, then launch.json lost, then vm.json broken."""
    host.v("create", "-t", "tiny", "web", "--start", "--wait")
    (folder,) = (host.state / "vm").iterdir()
    (pid,) = host.vmms()

    folder.rename(folder.with_name("web"))
    remedies = {row["remedy"] for row in wrong(host)}
    (line,) = {remedy[remedy.index("mv -T ") :] for remedy in remedies}
    assert "'web' is the name of a VM whose folder was renamed" in host.v("create", "-t", "tiny", "web", code=5).stderr
    host.v("create", "-t", "tiny", "other")
    assert [row["id"] for row in host.ls()] == [2]
    assert f"move it back: {line}" in host.v("stop", "web", code=4).stderr
    assert host.vmms() == [pid]
    subprocess.run(shlex.split(line), check=True)
    host.check()

    shown = next(row for row in host.ls() if row["name"] == "web")
    (folder / "launch.json").unlink()
    assert next(row for row in host.ls() if row["name"] == "web") == shown
    assert host.v("ssh", "web", "echo", "in").stdout == "in\n"
    run = json.loads(host.v("info", "web", "--format", "json").stdout)[0]["run"]
    assert (run["pid"], run["hypervisor"], run.get("unit")) == (pid, "qemu", None)

    (folder / "vm.json").write_text("{")
    row = next(row for row in host.ls() if row["name"] == "web")
    assert (row["state"], row["problem"][:23]) == ("running", "broken, and it runs: vm")
    assert "stopped web gracefully" in host.v("stop", "--all").stderr
    assert host.vmms() == []
    assert next(row for row in host.ls() if row["name"] == "web")["state"] == "broken"


def test_what_is_wrong_of_the_host_does_not_hide_the_rest(bare: Host) -> None:
    bare.configure("[[template")
    bare.env["PATH"] = ""
    rows = {row["name"]: row for row in json.loads(bare.v("doctor", "--format", "json", code=3).stdout)}
    assert rows["configuration"]["ok"] == rows["PATH"]["ok"] == rows["cp"]["ok"] == "no"
    assert rows["VMs"]["ok"] == rows["state folder"]["ok"] == "yes"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_what_is_roots_among_anothers_vms_is_told_with_what_mends_it() -> None:
    with nobody() as user:
        image = user.home / "image.raw"
        image.write_bytes(b"\x55" * 2**20)
        config = user.home / "config.toml"
        config.write_text(f'[[template.vm]]\nname = "p"\n[[template.vm.disk]]\nname = "os"\npath = "{image}"\n')
        for path in (image, config):
            path.chmod(0o644)
        user.env["VIRSHLE_CONFIG"] = str(config)
        user.v("create", "-t", "p", "web", "-n", "2")
        vms = {row["name"]: Path(user.state / "vm" / row["uuid"]) for row in _listed(user.v("ls", "--format", "json"))}
        file, record = vms["web-1"] / "vm.json", vms["web-2"] / "vmm.pid"
        os.chown(file, 0, 0)
        record.touch(0o600)
        states = {row["uuid"]: row["state"] for row in _listed(user.v("ls", "--format", "json"))}
        assert states == {vms["web-1"].name: "broken", vms["web-2"].name: "unknown"}
        rows = [row for row in _listed(user.v("doctor", "--format", "json", code=3)) if row["area"] == "state"]
        found = {(row["name"], row["found"].partition(":")[0]): row["remedy"] for row in rows}
        (mend,) = [remedy for (name, _), remedy in found.items() if "chown" in remedy]
        assert ("VM web-2", "cannot find out if a VM runs") in found
        subprocess.run(shlex.split(mend[mend.index("chown ") :].partition(";")[0]), check=True)
        record.unlink()
        assert {row["state"] for row in _listed(user.v("ls", "--format", "json"))} == {"stopped"}


def _listed(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows
