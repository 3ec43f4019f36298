"""Trouble on a host with KVM and systemd: told, bounded, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.box.conftest import Box
from tests.box.test_main_path import alone, info, state

DRIVER = Path(__file__).parents[1] / "host" / "driver.py"
PLAIN = """
[[template.vm]]
name = "plain"
vram = "64MiB"
hypervisor = "{hypervisor}"
[[template.vm.disk]]
name = "os"
image = "still"
[[image]]
name = "still"
nix = "/root/still"
"""


@pytest.fixture
def ch(box: Box) -> Box:
    """A box whose VMs run on cloud-hypervisor."""
    if box.run("command -v cloud-hypervisor", code=None).returncode:
        pytest.skip("no cloud-hypervisor in the box")
    alone(box, "cloud-hypervisor")
    return box


def fake_program(box: Box, name: str, text: str) -> None:
    """Comes before the real one in root's PATH."""
    box.write(f"/usr/local/sbin/{name}", text, 0o755)


@pytest.fixture(autouse=True)
def no_fakes(box: Box) -> object:
    yield
    box.run(
        "rm -f /usr/local/sbin/cloud-hypervisor /usr/local/sbin/qemu-system-x86_64; chmod 660 /dev/kvm; [ -c /dev/kvm ]"
    )


def test_no_cloud_hypervisor(box: Box) -> None:
    alone(box, "cloud-hypervisor")
    box.run("mkdir -p /root/away && mv /usr/local/bin/cloud-hypervisor /root/away/", code=None)
    try:
        said = box.v("create", "-t", "alone", "web", code=3).stderr
        assert "cloud-hypervisor is not on this machine" in said
        assert "hint: install it" in said
        assert box.ls() == []
    finally:
        box.run("mv /root/away/cloud-hypervisor /usr/local/bin/", code=None)


@pytest.mark.parametrize(
    ("version", "says"),
    [("cloud-hypervisor v45.0", "v48.0 is the oldest"), ("what?", "does not say its version")],
)
def test_a_cloud_hypervisor_that_is_too_old_or_something_else(box: Box, version: str, says: str) -> None:
    alone(box, "cloud-hypervisor")
    fake_program(box, "cloud-hypervisor", f"#!/bin/sh\necho '{version}'\n")
    assert says in box.v("create", "-t", "alone", "web", code=3).stderr
    assert "takes QEMU" in box.v("doctor").stdout


def test_a_vmm_that_dies_at_once(box: Box, hypervisor: str) -> None:
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web")
    program = "cloud-hypervisor" if hypervisor == "cloud-hypervisor" else "qemu-system-x86_64"
    version = "cloud-hypervisor v53.0" if hypervisor == "cloud-hypervisor" else "QEMU emulator version 10.0.0"
    fake_program(
        box, program, f'#!/bin/sh\n[ "$1" = --version ] && echo "{version}" && exit\necho "I am broken" >&2\nexit 3\n'
    )
    said = box.v("start", "web", code=6).stderr
    assert "I am broken" in said
    assert state(box) == "stopped"
    box.run("rm -f /usr/local/sbin/cloud-hypervisor /usr/local/sbin/qemu-system-x86_64")
    box.v("start", "web", "--wait")


def test_an_api_that_refuses(ch: Box) -> None:
    """Its error is an array of strings; what a person reads is one line."""
    ch.v("create", "-t", "alone", "web")
    file = info(ch, "web")["disks"][1]["file"]
    # A qcow2 header in what is said to be raw: vm.boot is refused.
    ch.run(f"printf 'QFI\\373\\0\\0\\0\\3' | dd of={file} conv=notrunc status=none")
    said = ch.v("start", "web", code=6).stderr
    assert "cloud-hypervisor refused `vm.boot`: The VM could not boot: " in said
    assert "[" not in said.splitlines()[0]
    assert state(ch) == "stopped"
    ch.run(f"dd if=/dev/zero of={file} bs=8 count=1 conv=notrunc status=none")
    ch.v("start", "web", "--wait")


def test_a_vmm_that_stands_still(box: Box, hypervisor: str) -> None:
    """SIGSTOP: every question to it is bounded, and it is left alone unless --force is given."""
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web", "--start", "--wait")
    pid = info(box, "web")["run"]["pid"]
    box.run(f"kill -STOP {pid}")
    assert box.ls()[0]["state"] in ("unknown", "running")
    said = box.v("stop", "web", "--timeout", "3", code=8, timeout=60).stderr
    assert "left running" in said
    box.v("pause", "web", code=8, timeout=60)
    box.run(f"kill -CONT {pid}")
    assert box.v("ssh", "web", "hostname").stdout == "web\n"
    box.run(f"kill -STOP {pid}")
    assert "by force" in box.v("stop", "web", "--force", "--timeout", "1", timeout=90).stderr
    assert state(box) == "stopped"


def test_a_vmm_that_is_killed_is_shown_as_crashed(box: Box, hypervisor: str) -> None:
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web", "--start", "--wait")
    box.run(f"kill -KILL {info(box, 'web')['run']['pid']}")
    box.wait_until(lambda: state(box) == "crashed")
    assert box.ls()[0]["problem"].startswith("its VMM died")
    assert box.services()["virshle-vm-web.service"] == "failed"
    # Stale sockets and a failed unit of its name are in nobody's way.
    box.v("start", "web", "--wait")
    assert box.v("ssh", "web", "hostname").stdout == "web\n"
    box.run(f"kill -KILL {info(box, 'web')['run']['pid']}")
    box.wait_until(lambda: state(box) == "crashed")
    box.v("delete", "web")
    assert box.services().keys() <= {"virshle.slice"}


def test_stale_sockets_of_any_kind(box: Box, hypervisor: str) -> None:
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web", "--start")
    run = info(box, "web")["run"]["folder"]
    box.v("stop", "web", "--force", "--timeout", "0")
    stale = "ch.sock ch.sock.lock vsock vsock_9000 qmp.sock ready"
    box.run(f"cd {run} && for name in {stale}; do rm -f $name; python3 -c 'import socket,sys; "
            f"socket.socket(socket.AF_UNIX).bind(sys.argv[1])' $name; done")  # fmt: skip
    box.v("start", "web", "--wait")


def test_a_unit_of_its_name_that_is_not_ours(box: Box, hypervisor: str) -> None:
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web")
    box.run("systemd-run --quiet --unit=virshle-vm-web sleep infinity")
    said = box.v("start", "web", code=5).stderr
    assert "another virshle-vm-web.service" in said
    assert "systemctl status virshle-vm-web" in said
    box.run("systemctl is-active virshle-vm-web")
    box.run("systemctl stop virshle-vm-web")
    box.run("systemd-run --quiet --unit=virshle-vm-web false; systemctl is-failed virshle-vm-web")
    box.v("start", "web", "--wait")


def test_no_kvm(ch: Box) -> None:
    ch.v("create", "-t", "alone", "web")
    ch.run("chmod 600 /dev/kvm")
    assert "may not be opened by virshle-vmm" in ch.v("start", "web", code=3).stderr
    ch.run("chmod 660 /dev/kvm; mv /dev/kvm /dev/kvm.away")
    try:
        assert "/dev/kvm is not there" in ch.v("start", "web", code=3).stderr
        found = {row["name"]: row for row in json.loads(ch.v("doctor", "--format", "json", code=None).stdout)}
        assert found["KVM"]["ok"] == "limited"
        assert found["KVM"]["remedy"]
    finally:
        ch.run("mv /dev/kvm.away /dev/kvm")
    ch.v("start", "web", "--wait")


def test_no_user_for_vmms(box: Box, hypervisor: str) -> None:
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web", "--start")
    box.v("stop", "web", "--force", "--timeout", "0")
    box.run("userdel virshle-vmm")
    assert "useradd" in box.v("start", "web", "--wait", "-vvv").stderr


def test_a_disk_that_another_vmm_has(ch: Box) -> None:
    ch.v("create", "-t", "alone", "web", "--start", "--wait")
    ch.v("create", "-t", "alone", "thief")
    mine, theirs = (info(ch, name)["disks"][0]["file"] for name in ("web", "thief"))
    ch.run(["ln", "-f", mine, theirs])
    said = ch.v("start", "thief", code=6).stderr
    assert "already locked" in said
    assert "hint: another VMM has this disk open" in said
    assert state(ch, "thief") == "stopped"
    assert ch.v("ssh", "web", "hostname").stdout == "web\n"


def test_a_kernel_that_is_gone(box: Box, hypervisor: str) -> None:
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web")
    folder = info(box, "web")["folder"]
    box.run(f"mv {folder}/boot/kernel /root/kernel.away")
    said = box.v("start", "web", code=5).stderr
    assert "boot/kernel is missing" in said
    box.run(f"mv /root/kernel.away {folder}/boot/kernel")
    box.v("start", "web", "--wait")


def test_no_firmware(ch: Box) -> None:
    ch.run("truncate -s 64M /root/efi.raw")
    ch.configure("cloud-hypervisor", PATH_TEMPLATE)
    ch.v("create", "-t", "efi", "web")
    said = ch.v("start", "web", code=3).stderr
    assert "no firmware for cloud-hypervisor" in said
    assert "firmware =" in said


PATH_TEMPLATE = """
[[template.vm]]
name = "efi"
hypervisor = "cloud-hypervisor"
[[template.vm.disk]]
name = "os"
path = "/root/efi.raw"
"""


def test_a_guest_that_ignores_the_power_button(box: Box, hypervisor: str) -> None:
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web", "--start", "--wait")
    # Nothing that handles the button is left, and nothing starts it again.
    box.v("ssh", "web", "rm /lib/tiny/power-button; killall acpid; cp /bin/true /lib/tiny/power-button", code=None)
    said = box.v("stop", "web", "--timeout", "2", code=8).stderr
    assert "left running" in said
    assert "v stop --force web" in said
    assert state(box) == "running"
    assert "by force" in box.v("stop", "web", "--timeout", "1", "--force").stderr


def test_a_host_that_goes_down(box: Box, hypervisor: str) -> None:
    """Rebooted: guests are powered off. Its power cut: they show as stopped by the host. They start again, whole."""
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web", "--start", "--wait")
    box.v("ssh", "web", "echo kept >/root/note; sync")
    box.reboot()
    assert state(box) == "stopped"
    assert "Going down for poweroff" in box.v("logs", "web").stdout
    box.v("start", "web", "--wait")
    assert box.v("ssh", "web", "cat /root/note").stdout == "kept\n"
    box.power_cut()
    row = box.ls()[0]
    assert (row["state"], row["problem"]) == ("stopped", "the host went down while it ran")
    box.v("start", "web", "--wait")
    assert box.v("ssh", "web", "cat /root/note").stdout == "kept\n"


def driven(box: Box, moment: str, number: int, *words: str) -> list[str]:
    """`v`, killed at that step; the steps it began."""
    box.write("/root/driver.py", DRIVER.read_text())
    box.run("rm -f /root/steps")
    argv = ["/opt/virshle/bin/python", "/root/driver.py", "kill", moment, str(number), "/root/steps", "--", *words]
    box.run(argv, code=None)
    return box.read("/root/steps").splitlines()


def test_kill_9_of_v_at_each_step_of_start(box: Box, hypervisor: str) -> None:
    """Each leaves a VM that is stopped, or runs, or begins again at the next start; never two VMMs."""
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web")
    number = 1
    while True:
        began = driven(box, "after", number, "start", "web")
        if len(began) < number:
            break
        assert state(box) in ("stopped", "starting", "running"), began
        said = box.v("start", "web").stderr
        assert state(box) == "running", (began, said)
        assert len(box.run("pgrep -u virshle-vmm -f -- 'run/virshle'; true").stdout.split()) in (1, 2), began
        box.v("stop", "web", "--force", "--timeout", "0")
        number += 1
    assert number > 10


def test_kill_9_of_v_while_it_waits_leaves_the_vm(box: Box, hypervisor: str) -> None:
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web")
    with box.spawn(["v", "start", "web", "--wait"]) as process:
        box.wait_until(lambda: state(box) == "running")
        box.run("pkill -KILL -f '[v] start web'", code=None)
        process.kill()
    box.v("start", "web", "--wait")
    assert box.v("ssh", "web", "hostname").stdout == "web\n"
