"""Trouble while VMs are made, run and go: told, bounded, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tests.host.host import DRIVER, LONG, Host, V
from tests.host.test_bad_input import refused
from tests.host.test_kill import one_image
from virshle.model.version import VERSION

BROKEN_QEMU = """#!/bin/sh
[ "$1" = --version ] && echo "QEMU emulator version 9.9.9" && exit
echo "I am broken" >&2
exit 1
"""


@pytest.mark.heart
def test_interrupt_at_each_step_of_create(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "first")
    _, steps = bare.driven("none", "before", 0, "create", "-t", "plain", "web", code=0)
    bare.v("delete", "web")
    for number in range(1, len(steps) + 1):
        done, _ = bare.driven("interrupt", "before", number, "create", "-t", "plain", "web", code=130)
        assert "interrupted" in done.stderr
        assert [row["name"] for row in bare.ls()] == ["first"]
        bare.check()


@pytest.mark.heart
def test_ctrl_c_while_waiting_leaves_the_vm(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    argv = [sys.executable, str(DRIVER), "none", "before", "0", str(bare.folder / "x"), "--", "start", "web", "--wait"]
    process = subprocess.Popen(argv, env=bare.environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while bare.ls()[0]["state"] != "running":
        assert time.monotonic() < deadline
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert bare.ls()[0]["state"] == "running"


def test_guest_that_never_gets_ready(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    said = bare.v("start", "web", "--wait", "--timeout", "2", code=8).stderr
    assert "ssh server to answer after 2 s" in said
    assert bare.ls()[0]["state"] == "running"
    assert "is running" in refused(bare, 5, "delete", "web")


@pytest.mark.heart
def test_guest_that_ignores_the_power_button(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    bare.v("start", "web")
    said = bare.v("stop", "web", "--timeout", "1", code=8).stderr
    assert "left running" in said
    assert "v stop --force web" in said
    assert bare.ls()[0]["state"] == "running"
    assert "by force" in bare.v("stop", "web", "--timeout", "1", "--force").stderr
    bare.check()


def test_vmm_that_dies_at_once(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    broken = bare.folder / "bin"
    broken.mkdir()
    qemu = broken / "qemu-system-x86_64"
    qemu.write_text(BROKEN_QEMU)
    qemu.chmod(0o755)
    bare.env["PATH"] = f"{broken}:{os.environ['PATH']}"
    said = bare.v("start", "web", code=6).stderr
    assert "I am broken" in said
    assert "its process has ended" in said
    assert bare.ls()[0]["state"] == "stopped"
    del bare.env["PATH"]
    bare.v("start", "web")


def test_no_hypervisor_at_all(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    bare.env["PATH"] = str(tools(bare, "sh", "stat", "mkdir", "rm"))
    said = refused(bare, 3, "start", "web")
    assert "qemu-system" in said
    assert "apt-get install" in said


def test_no_nix(bare: Host) -> None:
    bare.env["PATH"] = str(tools(bare, "sh", "stat", "mkdir", "rm"))
    said = refused(bare, 3, "image", "build", "tiny")
    assert "nix is not on this machine" in said
    assert "nix-bin" in said


def test_nix_that_is_too_old(bare: Host) -> None:
    folder = tools(bare, "sh", "stat", "mkdir", "rm")
    (folder / "nix").write_text("#!/bin/sh\necho 'nix (Nix) 2.3.16'\n")
    (folder / "nix").chmod(0o755)
    bare.env["PATH"] = str(folder)
    assert "too old" in refused(bare, 3, "image", "build", "tiny")


def tools(host: Host, *names: str) -> Path:
    """A PATH with nothing but these."""
    import shutil

    folder = host.folder / "bin"
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return folder


def test_broken_definition(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    bare.v("create", "-t", "plain", "other")
    uuid = next(row["uuid"] for row in bare.ls() if row["name"] == "web")
    path = bare.state / "vm" / uuid / "vm.json"
    whole = path.read_text()
    for text in (
        "{",
        "[]",
        whole.replace('"vcpu": 1', '"vcpu": "many"'),
        whole.replace(f'"version": {VERSION}', '"version": 9'),
    ):
        path.write_text(text)
        rows = {row["name"]: row for row in bare.ls()}
        assert rows["web"]["state"] == "broken"
        assert rows["web"]["problem"]
        assert rows["other"]["state"] == "stopped"
        assert "web is broken" in refused(bare, 5, "start", "web")
        assert "web is broken" in refused(bare, 5, "delete", "web")
        bare.v("create", "-t", "plain", "third")
        bare.v("delete", "--all", "--yes")  # all that are whole
        assert path.read_text() == text
        bare.v("create", "-t", "plain", "other")
    path.write_text(whole)
    bare.check()


def test_disk_path_that_leaves_its_folder(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    path = next(bare.state.glob("vm/*/vm.json"))
    victim = bare.folder / "victim"
    victim.write_text("mine")
    whole = json.loads(path.read_text())
    for file in (str(victim), "../../../victim", "disk/../../../../victim"):
        whole["disks"][0]["file"] = file
        path.write_text(json.dumps(whole))
        assert "leaves the VM's folder" in refused(bare, 5, "start", "web")
    whole["disks"][0]["file"] = "disk/os"
    path.write_text(json.dumps(whole))
    (path.parent / "disk" / "os").unlink()
    (path.parent / "disk" / "os").symlink_to(victim)
    assert "is not a regular file" in refused(bare, 5, "start", "web")
    bare.v("delete", "web")
    assert victim.read_text() == "mine"


@pytest.mark.heart
def test_state_that_cannot_be_written(bare: Host) -> None:
    one_image(bare)
    bare.state.write_text("a file")
    said = refused(bare, 3, "create", "-t", "plain", "web")
    assert str(bare.state) in said


def test_runtime_folder_too_long_for_sockets(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    bare.env["VIRSHLE_RUN_DIR"] = str(bare.folder / ("x" * 90))
    assert "VIRSHLE_RUN_DIR" in refused(bare, 3, "start", "web")


def test_pid_record_of_another_process(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    record = bare.state / "vm" / bare.ls()[0]["uuid"] / "vmm.pid"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    bystander = subprocess.Popen(["sleep", "300"])
    try:
        for text in (f"{bystander.pid} 1 {boot} x", "garbage", "", f"{bystander.pid}"):
            record.write_text(text)
            assert bare.ls()[0]["state"] == "stopped"
            assert "stopped already" in bare.v("stop", "web", "--force").stderr
        bare.v("start", "web")
        bare.v("delete", "--force", "web")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_stale_socket(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    runtime = bare.run / "vm" / bare.ls()[0]["uuid"].replace("-", "")[:12]
    runtime.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(runtime / "qmp.sock"))
    bare.v("start", "web")
    assert bare.ls()[0]["state"] == "running"


def test_delete_in_bulk_asks(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web", "-n", "2")
    assert "--yes" in refused(bare, 2, "delete", "--all")
    bare.v("delete", "--all", "--yes")
    bare.check()


@pytest.mark.heart
def test_killed_vmm_is_crashed_and_starts_again(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    bare.v("start", "web")
    (pid,) = bare.vmms()
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while bare.ls()[0]["state"] != "crashed":
        assert time.monotonic() < deadline
    assert bare.ls()[0]["problem"].startswith("its VMM died")
    bare.v("start", "web")


def test_a_guest_that_stands_still_for_a_full_disk_says_so_and_goes_on(
    host: Host, small_disk: Callable[[str], Path]
) -> None:
    kept = host.folder / "kept"
    (host.state / "image").rename(kept)
    folder = small_disk("100m")
    shutil.move(kept, folder / "image")
    host.v("create", "-t", "tiny", "web", "--start", "--wait", "--timeout", "300")
    write = "dd if=/dev/urandom of=/fill bs=1M count=150 conv=fsync"
    host.v("ssh", "web", f"setsid sh -c '{write}; echo $? >/done' </dev/null >/dev/null 2>&1 &")
    deadline = time.monotonic() + LONG
    while (row := host.ls()[0])["state"] != "paused":
        assert time.monotonic() < deadline, row
        time.sleep(0.2)
    assert row["problem"].endswith("make room (df -h), then: v resume web")
    assert "a disk of the host is full" in host.v("info", "web").stdout
    subprocess.run(["mount", "-o", "remount,size=400m", str(folder)], check=True)
    host.v("resume", "web")
    # It lost nothing: what it could not write is written now.
    while host.v("ssh", "web", "cat /done", code=None).stdout != "0\n":
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert (host.ls()[0]["state"], host.ls()[0]["problem"]) == ("running", None)


@pytest.mark.heart
def test_hung_vmm_is_unknown_and_can_be_forced(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    bare.v("start", "web")
    (pid,) = bare.vmms()
    os.kill(pid, signal.SIGSTOP)
    assert bare.ls()[0]["state"] == "unknown"
    bare.v("stop", "web", "--timeout", "1", code=8)
    bare.v("delete", "web", "--force")
    assert bare.vmms() == []
    bare.check()


def test_record_that_is_lost_or_wrong_while_it_runs(bare: Host) -> None:
    """That it runs is known all the same; only whom to kill is not."""
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    bare.v("start", "web")
    record = bare.state / "vm" / bare.ls()[0]["uuid"] / "vmm.pid"
    whole = record.read_text()
    for text in ("", "garbage", f"{os.getpid()} 1 x y"):
        record.write_text(text)
        assert bare.ls()[0]["state"] == "running"
        assert "is running already" in bare.v("start", "web").stderr
        assert "is running" in refused(bare, 5, "delete", "web")
        assert "fuser -v" in refused(bare, 5, "delete", "web", "--force")
    record.write_text(whole)
    bare.v("delete", "web", "--force")
    bare.check()


def test_runtime_folder_that_went_while_it_runs(bare: Host) -> None:
    """As an ordinary user's did at a logout. Another folder in the environment is no matter: the run's is noted."""
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    bare.v("start", "web")
    bare.env["VIRSHLE_RUN_DIR"] = str(bare.folder / "r2")
    assert bare.ls()[0]["state"] == "running"
    shutil.rmtree(bare.folder / "r")
    assert bare.ls()[0]["state"] == "unknown"
    assert "is running" in refused(bare, 5, "delete", "web")
    assert "is running already" in bare.v("start", "web").stderr
    bare.v("stop", "--force", "--timeout", "1", "web")
    assert bare.vmms() == []
    bare.v("start", "web")
    assert bare.ls()[0]["state"] == "running"


def test_qmp_used_by_somebody_else(bare: Host) -> None:
    """Without --force the VM is left alone; with it, only after the whole time."""
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    bare.v("start", "web")
    (path,) = bare.run.glob("vm/*/qmp.sock")
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(path))
        assert other.recv(65536)
        assert "left running" in bare.v("stop", "web", "--timeout", "1", code=8).stderr
        assert bare.ls()[0]["state"] == "unknown"
    bare.v("stop", "web", "--force", "--timeout", "1")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_interrupt_at_each_step_of_start(bare: Host, moment: str) -> None:
    """Undone or running: never said to be undone and running."""
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    # The first start makes what all later ones find.
    bare.v("start", "web")
    bare.v("stop", "--force", "--timeout", "0", "web")
    _, steps = bare.driven("none", "before", 0, "start", "web", code=0)
    bare.v("stop", "--force", "--timeout", "0", "web")
    for number in range(1, len(steps) + 1):
        done, _ = bare.driven("interrupt", moment, number, "start", "web", code=130)
        assert "interrupted" in done.stderr
        if "kill -KILL" in done.stderr:
            assert bare.vmms() == []
        bare.v("stop", "--force", "--timeout", "0", "web")
        bare.check()


def test_leftover_that_cannot_be_removed(bare: Host, small_disk: Callable[[str], Path]) -> None:
    """It is told, and the work goes on."""
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    left = bare.state / "vm" / f".del-{uuid4()}"
    left.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(left)], check=True)
    try:
        said = bare.v("create", "-t", "plain", "other").stderr
        assert "warning: " in said
        assert str(left) in said
        assert "leftover" in bare.v("doctor", code=None).stdout
    finally:
        subprocess.run(["umount", str(left)], check=True)
    bare.v("delete", "web", "other", "--yes")
    bare.check()


def test_a_hangup_is_ignored_where_nohup_asked_for_it(bare: Host) -> None:
    one_image(bare)
    bare.v("create", "-t", "plain", "web")
    process = subprocess.Popen(
        ["nohup", str(V), "start", "web", "--wait", "--timeout", "3"],
        env=bare.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while bare.ls()[0]["state"] != "running":
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGHUP)
    assert "ssh server to answer after 3 s" in process.communicate(timeout=60)[1]
    assert process.returncode == 8
