"""The main path on a host with KVM, as root, with what a user installs."""

from __future__ import annotations

import json

from tests.box.conftest import Box


def test_create_start_ssh_stop_delete(box: Box) -> None:
    box.configure("qemu")
    done = box.v("create", "-t", "tiny", "web", "--start", "--wait")
    assert done.stdout == "web\n"
    assert "emulation" not in done.stderr
    info = json.loads(box.v("info", "web", "--format", "json").stdout)
    assert info["run"]["accelerator"] == "kvm"
    assert box.v("ssh", "web", "hostname").stdout == "web\n"
    assert box.v("ssh", "web", "exit 7", code=7).stdout == ""
    assert "stopped web gracefully" in box.v("stop", "web").stderr
    box.v("delete", "web")
    assert box.ls() == []


def test_nothing_of_a_test_is_left_to_the_next(box: Box) -> None:
    box.configure("qemu")
    box.v("create", "-t", "tiny", "-n", "2", "--start")
    box.clean()
    assert box.ls() == []
    box.run("! pgrep qemu-system")
    assert box.services() == {}
