"""The main path on a host with KVM and systemd, as root, with what a user installs; on each VMM."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.box.conftest import Box

TEMPLATES = """
[[template.vm]]
name = "alone"
vram = "256MiB"
hypervisor = "{hypervisor}"
[[template.vm.disk]]
name = "os"
image = "tiny"
size = "1GiB"
[[template.vm.disk]]
name = "data"
size = "64MiB"
"""


def info(box: Box, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(box.v("info", name, "--format", "json").stdout)
    return found


def state(box: Box, name: str = "web") -> str:
    return next(str(row["state"]) for row in box.ls() if row["name"] == name)


def alone(box: Box, hypervisor: str) -> None:
    """A template of a guest without any net."""
    box.configure(hypervisor, TEMPLATES.format(hypervisor=hypervisor))


def test_from_nothing_to_nothing(box: Box, hypervisor: str) -> None:
    """Without a net: readiness and ssh come by vsock alone."""
    alone(box, hypervisor)
    done = box.v("create", "-t", "alone", "web", "--start", "--wait")
    assert done.stdout == "web\n"
    assert "emulation" not in done.stderr
    run = info(box, "web")["run"]
    assert (run["hypervisor"], run["accelerator"], run["unit"]) == (hypervisor, "kvm", "virshle-vm-web")

    assert box.v("ssh", "web", "hostname").stdout == "web\n"
    assert box.v("ssh", "web", "exit 7", code=7).stdout == ""
    assert box.v("ssh", "web", "ls /sys/class/net").stdout == "lo\n"
    size = int(box.v("ssh", "web", "df -k / | awk 'END {print $2}'").stdout)
    assert size > 900 * 1024, "the file system was not grown to the template's 1GiB"
    assert box.v("ssh", "web", "cat /sys/block/vdb/serial").stdout.strip() == "data"
    assert "web is ready" in box.v("logs", "web").stdout

    assert "paused web" in box.v("pause", "web").stderr
    assert state(box) == "paused"
    assert "resumed web" in box.v("resume", "web").stderr
    assert box.v("ssh", "web", "true").returncode == 0

    assert "stopped web gracefully" in box.v("stop", "web").stderr
    assert state(box) == "stopped"
    box.v("delete", "web")
    assert box.ls() == []
    assert box.services().keys() <= {"virshle.slice"}
    assert box.run("ls /run/virshle/vm /var/lib/virshle/vm /var/lib/virshle/name").stdout.split() == [
        "/run/virshle/vm:",
        "/var/lib/virshle/name:",
        "/var/lib/virshle/vm:",
    ]


def test_a_user_net_and_a_guest_that_reboots(box: Box, hypervisor: str) -> None:
    """The built-in template: outward by the VMM's own network, inward by a port of the host."""
    box.configure(hypervisor)
    box.v("create", "-t", "tiny", "web", "--start", "--wait")
    port = info(box, "web")["run"]["ssh_port"]
    greets = f"timeout 5 head -c 4 </dev/tcp/127.0.0.1/{port} | grep -q SSH-"
    box.wait_until(greets)
    pid = info(box, "web")["run"]["pid"]
    box.v("ssh", "web", "reboot", code=None)
    box.wait_until(lambda: box.v("logs", "web").stdout.count("web is ready") == 2)
    assert info(box, "web")["run"]["pid"] == pid
    box.wait_until(greets)
    box.v("stop", "web")
    box.wait_until("! pgrep -x 'passt(.avx2)?'")


def test_auto_takes_cloud_hypervisor_and_says_so(box: Box, hypervisor: str) -> None:
    box.configure("auto")
    if hypervisor == "qemu":
        box.run("mkdir -p /root/away && mv /usr/local/bin/cloud-hypervisor /root/away/ 2>/dev/null", code=None)
    try:
        box.v("create", "-t", "tiny", "web", "--start")
        run = info(box, "web")["run"]
        assert run["hypervisor"] == hypervisor
        assert ("cloud-hypervisor is not on this machine" in run.get("instead", "")) == (hypervisor == "qemu")
        assert "takes" in box.v("doctor").stdout
    finally:
        box.run("mv /root/away/cloud-hypervisor /usr/local/bin/ 2>/dev/null", code=None)


def test_what_curl_did_is_noticed(box: Box) -> None:
    if box.run("command -v cloud-hypervisor", code=None).returncode:
        pytest.skip("no cloud-hypervisor in the box")
    alone(box, "cloud-hypervisor")
    box.v("create", "-t", "alone", "web", "--start")
    api = f"curl -sSf --unix-socket {info(box, 'web')['run']['folder']}/ch.sock -X PUT http://localhost/api/v1"
    box.run(f"{api}/vm.pause")
    assert state(box) == "paused"
    box.run(f"{api}/vm.resume")
    assert state(box) == "running"
    box.run(f"{api}/vmm.shutdown")
    box.wait_until(lambda: state(box) == "stopped")
    box.v("start", "web", "--wait")


def test_waiting_for_one_that_runs_already(box: Box, hypervisor: str) -> None:
    """What it said when nobody listened is gone; its ssh server answers."""
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web", "--start")
    box.wait_until(lambda: "web is ready" in box.v("logs", "web").stdout)
    assert "running already" in box.v("start", "web", "--wait").stderr


def test_no_trace_of_root_in_a_running_vmm(box: Box, hypervisor: str) -> None:
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web", "--start")
    box.v("create", "-t", "alone", "other")
    pid = info(box, "web")["run"]["pid"]
    status = dict(line.split(":\t", 1) for line in box.read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    uid = box.run("id -u virshle-vmm").stdout.strip()
    assert set(status["Uid"].split()) == {uid}
    assert (int(status["CapEff"], 16), status["NoNewPrivs"], status["Seccomp"]) == (0, "1", "2")
    argv = box.run(f"tr '\\0' ' ' </proc/{pid}/cmdline").stdout
    assert "web" in argv
    assert info(box, "web")["uuid"] in argv
    inside = f"nsenter --target {pid} --mount setpriv --reuid virshle-vmm --regid virshle-vmm --clear-groups"
    other = info(box, "other")
    box.run(f"{inside} test -r {info(box, 'web')['disks'][0]['file']}")
    box.run(f"{inside} test ! -e {other['disks'][0]['file']}")
    box.run(f"{inside} touch /etc/touched", code=1)
    # Another user of the host neither reads its disk nor talks to it.
    box.run(f"setpriv --reuid nobody --regid nogroup --clear-groups cat {info(box, 'web')['disks'][0]['file']}", code=1)
    box.run(f"setpriv --reuid nobody --regid nogroup --clear-groups ls {info(box, 'web')['run']['folder']}", code=2)


def test_systemctl_tells_a_person(box: Box, hypervisor: str) -> None:
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web", "--start", "--wait")
    told = box.run("systemctl status --no-pager --full virshle-vm-web").stdout
    assert f"VM web, run by {hypervisor} for virshle" in told
    assert "console.log" in told
    # Without virshle: the power button, and no failure.
    box.run("mv /opt/virshle /opt/virshle.away")
    try:
        box.run("systemctl stop virshle-vm-web")
    finally:
        box.run("mv /opt/virshle.away /opt/virshle")
    assert "Going down for poweroff" in box.v("logs", "web").stdout
    assert state(box) == "stopped"
    assert box.services().get("virshle-vm-web.service") is None


def test_a_script_makes_and_runs_it_without_virshle(box: Box, hypervisor: str) -> None:
    alone(box, hypervisor)
    box.v("create", "-t", "alone", "web")
    uuid = info(box, "web")["uuid"]
    box.write("/root/web.sh", box.v("script", "web").stdout)
    key = "/var/lib/virshle/key/id_ed25519"
    box.run(f"cp {key} /root/key; rm -rf /var/lib/virshle/vm /var/lib/virshle/name /var/lib/virshle/id /run/virshle")
    box.run("userdel virshle-vmm", code=None)
    box.run("mv /opt/virshle /opt/virshle.away")
    try:
        box.run("bash /root/web.sh")
        assert "web runs already" in box.run("bash /root/web.sh").stdout
    finally:
        box.run("mv /opt/virshle.away /opt/virshle")
    assert state(box) == "running"
    assert info(box, "web")["uuid"] == uuid
    box.v("start", "web", "--wait")
    assert box.v("ssh", "web", "hostname").stdout == "web\n"
    box.v("ssh", "web", "echo kept >/root/note; sync")
    box.run(f"/var/lib/virshle/vm/{uuid}/vmm.sh stop")
    box.run("bash /root/web.sh")
    box.v("start", "web", "--wait")
    assert box.v("ssh", "web", "cat /root/note").stdout == "kept\n"
