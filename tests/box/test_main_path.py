"""The main path on a host with KVM and systemd, as root, with what a user installs; on each VMM."""

from __future__ import annotations

import json

from tests.box.box import Box
from tests.box.test_console import Viewer


def test_from_nothing_to_nothing(box: Box, hypervisor: str) -> None:
    """Without a net: readiness and ssh come by vsock alone. All of it by the command that a user has."""
    box.configure(hypervisor)

    def v(*words: str, code: int = 0) -> tuple[str, str]:
        done = box.run(["v", *words], code)
        return done.stdout, done.stderr

    said, told = v("create", "-t", "alone", "web", "--start", "--wait")
    assert said == "web\n"
    assert "emulation" not in told
    run = json.loads(v("info", "web", "--format", "json")[0])[0]["run"]
    assert (run["hypervisor"], run["accelerator"], run["unit"]) == (hypervisor, "kvm", "virshle-vm-web")

    assert v("ssh", "web", "hostname; ls /sys/class/net; cat /sys/block/vdb/serial")[0].split() == ["web", "lo", "data"]
    assert v("ssh", "web", "exit 7", code=7)[0] == ""
    size = int(v("ssh", "web", "df -k / | awk 'END {print $2}'")[0])
    assert size > 900 * 1024, "the file system was not grown to the template's 1GiB"
    assert "web is ready" in v("logs", "web")[0]

    assert "paused web" in v("pause", "web")[1]
    assert "paused" in v("ls")[0]
    assert "resumed web" in v("resume", "web")[1]
    v("ssh", "web", "true")

    assert "stopped web gracefully" in v("stop", "web")[1]
    assert "stopped" in v("ls")[0]
    v("delete", "web")
    assert v("ls", "-q")[0] == ""
    assert box.services().keys() <= {"virshle.slice"}
    assert box.run("ls /run/virshle/vm /var/lib/virshle/vm /var/lib/virshle/name").stdout.split() == [
        "/run/virshle/vm:",
        "/var/lib/virshle/name:",
        "/var/lib/virshle/vm:",
    ]


def test_a_user_net_and_a_guest_that_reboots(box: Box, hypervisor: str) -> None:
    """The built-in template: outward by the VMM's own network, inward by a port of the host. Who looks at its console
    goes on looking."""
    box.configure(hypervisor)
    box.v("create", "-t", "tiny", "web", "--start", "--wait")
    run = box.info()["run"]
    greets = f"timeout 5 head -c 4 </dev/tcp/127.0.0.1/{run['ssh_port']} | grep -q SSH-"
    box.wait_until(greets)
    with Viewer(box) as viewer:
        viewer.types(b"\nreboot\n")
        box.wait_until(lambda: box.v("logs", "web").stdout.count("web is ready") == 2)
        viewer.types(b"\necho ba''ck\n")
        viewer.sees(b"back")
        viewer.leaves()
    assert box.info()["run"]["pid"] == run["pid"]
    box.wait_until(greets)
    box.v("stop", "web", "--force", "--timeout", "0")
    box.wait_until("! pgrep -x 'passt(.avx2)?'")


def test_auto_takes_cloud_hypervisor_and_says_so(box: Box, hypervisor: str) -> None:
    box.configure("auto")
    if hypervisor == "qemu":
        box.run("mkdir -p /root/away && mv /usr/local/bin/cloud-hypervisor /root/away/ 2>/dev/null", code=None)
    try:
        box.v("create", "-t", "tiny", "web", "--start")
        run = box.info()["run"]
        assert run["hypervisor"] == hypervisor
        assert ("cloud-hypervisor is not on this machine" in run.get("instead", "")) == (hypervisor == "qemu")
        uses = "uses QEMU: " if hypervisor == "qemu" else "uses cloud-hypervisor, "
        assert uses in box.v("doctor").stdout
    finally:
        box.run("mv /root/away/cloud-hypervisor /usr/local/bin/ 2>/dev/null", code=None)


def test_a_script_makes_and_runs_it_without_virshle(box: Box, hypervisor: str) -> None:
    box.configure(hypervisor)
    box.v("create", "-t", "alone", "web")
    uuid = box.info()["uuid"]
    box.write("/root/web.sh", box.v("script", "web").stdout)
    box.run("rm -rf /var/lib/virshle/vm /var/lib/virshle/name /var/lib/virshle/id /run/virshle")
    box.run("userdel virshle-vmm", code=None)
    box.run("mv /opt/virshle /opt/virshle.away")
    try:
        box.run("bash /root/web.sh")
        assert "web runs already" in box.run("bash /root/web.sh").stdout
    finally:
        box.run("mv /opt/virshle.away /opt/virshle")
    box.wait_until(lambda: box.state() == "running")
    assert box.info()["uuid"] == uuid
    box.v("start", "web", "--wait")
    assert box.v("ssh", "web", "hostname").stdout == "web\n"
    folder = f"/var/lib/virshle/vm/{uuid}"
    box.run(f"{folder}/vmm.sh stop")
    # What is there stays: the same file.
    disk = box.run(["stat", "--format=%i", f"{folder}/disk/os"]).stdout
    box.run("bash /root/web.sh")
    box.wait_until(lambda: box.state() == "running")
    assert box.run(["stat", "--format=%i", f"{folder}/disk/os"]).stdout == disk
