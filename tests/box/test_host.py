"""The box is what it claims to be."""

from __future__ import annotations

import pytest

from tests.box.box import Box

IMAGE = "/var/lib/virshle/image/tiny/result"


def test_it_is_a_debian_host(box: Box) -> None:
    assert box.run("systemctl is-system-running --wait", code=None).stdout == "running\n"
    assert box.run(["python3", "--version"]).stdout.startswith("Python 3.13.")
    assert "nix (Nix) 2" in box.run(["nix", "--version"]).stdout
    assert box.run(["nix-store", "--query", "--roots", IMAGE]).stdout
    box.run("modprobe vhost_vsock && modprobe xfs && modprobe btrfs && modprobe loop && modprobe macvtap")
    box.run("command -v kea-dhcp4 kea-dhcp6 kea-ctrl-agent passt mkfs.vfat mcopy mkfs.xfs mkfs.btrfs nft flock")
    assert box.run("systemctl is-active 'kea-*'", code=None).stdout == ""


def test_open_vswitch_forwards_in_the_kernel(box: Box) -> None:
    box.run("ovs-vsctl add-br probe && ip link set probe up")
    try:
        assert "probe" in box.run(["ovs-dpctl", "show"]).stdout
        assert box.run("ovs-vsctl get bridge probe datapath_type").stdout.strip() in ('""', "system")
    finally:
        box.run("ovs-vsctl del-br probe")


def test_a_reset_gives_it_a_fresh_disk(box: Box) -> None:
    box.run("echo kept >/root/note && sync")
    box.reset()
    box.run("[ ! -e /root/note ]")
    assert box.ls() == []


@pytest.mark.parametrize("tty", [True, False])
def test_commands_can_be_talked_to(box: Box, tty: bool) -> None:
    with box.spawn("cat", tty=tty) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() == b"hello"
        process.kill()
    box.wait_until("! pgrep -x cat")
