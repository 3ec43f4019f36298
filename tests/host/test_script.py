"""`v script` on real QEMU: the VM is made and run by bash alone."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.host.host import LONG, Host

ODD = "a b'c\"d $(touch x) `touch x`;&*,\ntouch x\n#"


def _run(*words: str | Path, code: int = 0) -> str:
    """Where virshle is not installed."""
    folders = [folder for folder in os.environ["PATH"].split(":") if shutil.which("v", path=folder) is None]
    env = {"PATH": ":".join([*folders, "/usr/sbin", "/sbin"]), "HOME": os.environ["HOME"]}
    assert shutil.which("v", path=env["PATH"]) is None
    done = subprocess.run(
        list(map(str, words)), env=env, text=True, capture_output=True, timeout=LONG, stdin=subprocess.DEVNULL
    )
    assert done.returncode == code, f"{words} exited with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _script(host: Host) -> Path:
    path = host.folder / "vm.sh"
    path.write_text(host.v("script", "web").stdout)
    return path


def _ssh(host: Host, script: Path, command: str) -> str:
    """As the script says, once the guest says that it is ready."""
    (ready,) = host.run.glob("vm/*/ready")
    deadline = time.monotonic() + LONG
    while "READY=1" not in ready.read_text().splitlines():
        assert time.monotonic() < deadline, "the guest never said that it was ready"
        time.sleep(0.05)
    (enter,) = re.findall(r"^# To enter it, once it has booted: (.*)", script.read_text(), re.MULTILINE)
    return _run("sh", "-c", f"{enter} -o BatchMode=yes {shlex.quote(command)}")


@pytest.mark.heart
def test_a_vm_is_made_and_run_without_virshle(host: Host) -> None:
    host.v("create", "-t", "tiny", "web", "--start", "--wait")
    host.v("ssh", "web", "echo old >/old; sync")
    (definition,) = host.state.glob("vm/*/vm.json")
    defined = definition.read_text()
    script = _script(host)
    assert _run("bash", script) == "web runs already\n"
    host.v("stop", "web")
    for folder in (*host.state.glob("vm/*"), *host.run.glob("vm/*")):
        shutil.rmtree(folder)
    for link in (*host.state.glob("name/*"), *host.state.glob("id/*")):
        link.unlink()

    *ways, said = _run("bash", script).splitlines()
    assert said == "web runs"
    assert [way.partition(":")[0] for way in ways[-3:]] == [
        "to enter it, once it has booted",
        "to see what it says",
        "to stop it by its power button",
    ]
    assert all(f"# {way[0].upper()}{way[1:]}\n" in script.read_text() for way in ways[-3:])
    assert _ssh(host, script, "hostname; ls /old 2>/dev/null; echo new >/new; sync") == "web\n"
    (pid,) = host.vmms()
    assert _run("bash", script) == "web runs already\n"
    assert host.vmms() == [pid]
    # To virshle it is the same VM as before, and a VM as any.
    assert definition.read_text() == defined
    host.check()
    (row,) = host.ls()
    assert (row["name"], row["id"], row["state"]) == ("web", 1, "running")
    assert host.v("ssh", "web", "cat /new").stdout == "new\n"

    (own,) = host.state.glob("vm/*/vmm.sh")
    assert "pressed the power button of web" in _run(own, "stop")
    assert host.vmms() == []
    # Run again, it takes the disk that is there.
    assert _run("bash", script).splitlines()[-1] == "web runs"
    assert _ssh(host, script, "cat /new") == "new\n"
    _run(own, "stop")
    assert host.ls()[0]["state"] == "stopped"


def test_a_name_that_is_another_vms_is_not_taken(host: Host) -> None:
    host.v("create", "-t", "tiny", "web")
    script = _script(host)
    host.v("delete", "web")
    host.v("create", "-t", "tiny", "web")
    before = host.folders()
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "belongs to another VM" in done.stderr
    assert host.folders() == before


def test_what_was_made_by_half_is_made_anew(host: Host) -> None:
    host.v("create", "-t", "tiny", "web")
    script = _script(host)
    (folder,) = host.state.glob("vm/*")
    whole = {path: path.stat().st_size for path in (folder / "disk/os", folder / "boot/kernel", folder / "boot/initrd")}
    for path in whole:
        path.rename(path.with_name(f".{path.name}.part"))
        os.truncate(path.with_name(f".{path.name}.part"), 4096)
    _run("bash", script)
    assert {path: path.stat().st_size for path in whole} == whole
    assert not list(folder.glob("*/.*.part"))
    host.v("stop", "web", "--force")


def test_odd_folders_stay_folders(host: Host) -> None:
    odd = Host(host.folder / ODD, dict(host.env))
    odd.folder.mkdir(mode=0o711)
    shutil.copytree(host.state / "image", odd.state / "image", symlinks=True)
    odd.v("create", "-t", "tiny", "web")
    script = _script(odd)
    for folder in odd.state.glob("vm/*"):
        shutil.rmtree(folder)
    try:
        assert _run("bash", script).splitlines()[-1] == "web runs"
        assert odd.ls()[0]["state"] == "running"
        assert not [*host.folder.rglob("x"), *Path().glob("x")]
    finally:
        odd.v("stop", "web", "--force", code=None)
    assert sorted(path.name for path in odd.folder.iterdir()) == ["r", "s", "vm.sh"]
