"""What is in the way of a start: told, nothing is left of it, and the VM starts as soon as it is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.box.box import ON_CLOUD_HYPERVISOR, Box, Web

PROGRAM = {"cloud-hypervisor": "cloud-hypervisor", "qemu": "qemu-system-x86_64"}
VERSION = {"cloud-hypervisor": "cloud-hypervisor v53.0", "qemu": "QEMU emulator version 10.0.0"}


@pytest.fixture
def still(web: Web) -> Iterator[Box]:
    """Stopped; and it starts whatever was done."""
    box = web.stopped()
    yield box
    if box.web:
        box.v("start", "web")
        box.wait_until(lambda: box.state() == "running")


def test_a_vmm_that_dies_at_once(still: Box, hypervisor: str) -> None:
    program = f"/usr/local/sbin/{PROGRAM[hypervisor]}"
    lines = f'#!/bin/sh\n[ "$1" = --version ] && echo "{VERSION[hypervisor]}" && exit\necho "I am broken" >&2\nexit 3\n'
    still.write(program, lines, 0o755)
    try:
        assert "I am broken" in still.v("start", "web", code=6).stderr
        assert still.state() == "stopped"
    finally:
        still.run(["rm", program])


@ON_CLOUD_HYPERVISOR
def test_an_api_that_refuses(still: Box) -> None:
    """Its error is an array of strings; what a person reads is one line."""
    file = still.info()["disks"][1]["file"]
    # A qcow2 header in what is said to be raw: vm.boot is refused.
    still.run(f"printf 'QFI\\373\\0\\0\\0\\3' | dd of={file} conv=notrunc status=none")
    said = still.v("start", "web", code=6).stderr
    assert "cloud-hypervisor refused `vm.boot`: The VM could not boot: " in said
    assert "[" not in said.splitlines()[0]
    assert still.state() == "stopped"
    still.run(f"dd if=/dev/zero of={file} bs=8 count=1 conv=notrunc status=none")


def test_stale_sockets_of_any_kind(still: Box) -> None:
    still.v("start", "web")
    run = still.info()["run"]["folder"]
    still.v("stop", "web", "--force", "--timeout", "0")
    stale = "ch.sock vsock vsock_9000 qmp.sock ready"
    still.run(f"mkdir -p {run}; cd {run} && for name in {stale}; do rm -f $name; python3 -c 'import socket,sys; "
              f"socket.socket(socket.AF_UNIX).bind(sys.argv[1])' $name; done; touch ch.sock.lock")  # fmt: skip


def test_a_unit_of_its_name_that_is_not_ours(still: Box) -> None:
    still.wait_until("[ $(systemctl show --property=LoadState --value virshle-vm-web) = not-found ]")
    still.run("systemd-run --quiet --unit=virshle-vm-web sleep infinity")
    said = still.v("start", "web", code=5).stderr
    assert "another virshle-vm-web.service" in said
    assert "systemctl status virshle-vm-web" in said
    still.run("systemctl is-active virshle-vm-web")
    still.run("systemctl stop virshle-vm-web")
    still.run("systemd-run --quiet --unit=virshle-vm-web false")
    still.wait_until("systemctl is-failed virshle-vm-web")


@ON_CLOUD_HYPERVISOR
def test_no_kvm(still: Box) -> None:
    try:
        still.run("chmod 600 /dev/kvm")
        assert "may not be opened by virshle-vmm" in still.v("start", "web", code=3).stderr
        still.run("chmod 660 /dev/kvm; mv /dev/kvm /dev/kvm.away")
        assert "/dev/kvm is not there" in still.v("start", "web", code=3).stderr
        found = {row["name"]: row for row in json.loads(still.v("doctor", "--format", "json", code=None).stdout)}
        assert found["KVM"]["ok"] == "limited"
        assert found["KVM"]["remedy"]
    finally:
        still.run("mv /dev/kvm.away /dev/kvm; chmod 660 /dev/kvm", code=None)


def test_no_user_for_vmms(still: Box) -> None:
    still.wait_until("! pgrep -u virshle-vmm")
    still.run("userdel virshle-vmm")
    assert "useradd" in still.v("start", "web", "-vvv").stderr


def test_a_kernel_that_is_gone(still: Box) -> None:
    folder = still.info()["folder"]
    still.run(f"mv {folder}/boot/kernel /root/kernel.away")
    said = still.v("start", "web", code=5).stderr
    assert "boot/kernel is missing" in said
    still.run(f"mv /root/kernel.away {folder}/boot/kernel")


def steps_of_start(box: Box) -> list[str]:
    """What they are for; of one that is not the first, which has more."""
    box.v("start", "web")
    box.v("stop", "web", "--force", "--timeout", "0")
    shown = box.v("start", "web", "--dry-run").stdout
    return [line.removeprefix("# web: ") for line in shown.splitlines() if line.startswith("# web: ")]


def first_of_vmm(steps: list[str]) -> int:
    """The number of the step from which on there is a process."""
    return next(number for number, why in enumerate(steps, 1) if why.startswith("start "))


def test_kill_9_of_v_at_each_step(still: Box, hypervisor: str) -> None:
    """Each leaves a VM that is stopped, or runs, or begins again at the next start; never two VMMs."""
    steps = steps_of_start(still)
    assert len(steps) > 10
    # All that comes before there is a process is the same for both.
    first = 1 if hypervisor == "cloud-hypervisor" else first_of_vmm(steps)
    for number in range(first, len(steps) + 1):
        began = still.v("start", "web", code=None, fault=("kill", "after", number)).steps
        # Unknown: a QEMU that does not listen yet.
        assert still.state() in ("stopped", "starting", "running", "unknown"), began
        still.v("start", "web")
        still.wait_until(lambda: still.state() == "running")
        assert len(still.run("pgrep -u virshle-vmm -f -- 'run/virshle'; true").stdout.split()) in (1, 2), began
        still.v("stop", "web", "--force", "--timeout", "0")


def test_a_vmm_killed_at_each_step(still: Box) -> None:
    """From its process on; what is told says that it died, and nothing is left running."""
    steps = steps_of_start(still)
    killed = 0
    for number in range(first_of_vmm(steps), len(steps) + 1):
        fault = ("sh:systemctl kill --signal=KILL virshle-vm-web", "after", number)
        done = still.v("start", "web", code=None, fault=fault)
        if done.returncode:
            assert done.returncode == 6, done
            killed += 1
        still.wait_until(lambda: still.state() in ("stopped", "crashed"))
    assert killed


def test_kill_9_of_v_while_it_waits_leaves_the_vm(still: Box) -> None:
    with still.spawn(["v", "start", "web", "--wait"]) as process:
        still.wait_until(lambda: still.state() == "running")
        still.run("pkill -KILL -f '[v] start web'", code=None)
        process.kill()
    still.v("start", "web", "--wait")
    assert still.v("ssh", "web", "hostname").stdout == "web\n"
