"""A VM that runs: seen from outside, with its VMM questioned, stopped still, killed."""

from __future__ import annotations

import json
import re

from tests.box.box import ON_CLOUD_HYPERVISOR, Web
from tests.host.readable import OTHER, READ


def inside(pid: int) -> str:
    """What begins a command that sees what the VMM's unit lets it see, as the VMM's user."""
    return f"nsenter --target {pid} --mount setpriv --reuid virshle-vmm --regid virshle-vmm --clear-groups"


def test_no_trace_of_root_in_its_vmm(web: Web) -> None:
    box = web.ready()
    box.v("create", "-t", "alone", "other")
    mine, other = box.info(), box.info("other")
    pid, disk = mine["run"]["pid"], mine["disks"][0]["file"]
    status = dict(line.split(":\t", 1) for line in box.read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    uid = box.run("id -u virshle-vmm").stdout.strip()
    assert set(status["Uid"].split()) == {uid}
    assert (int(status["CapEff"], 16), status["NoNewPrivs"], status["Seccomp"]) == (0, "1", "2")
    argv = box.run(f"tr '\\0' ' ' </proc/{pid}/cmdline").stdout
    assert "web" in argv
    assert mine["uuid"] in argv
    box.run(f"{inside(pid)} test -r {disk}")
    box.run(f"{inside(pid)} test ! -e {other['disks'][0]['file']}")
    box.run(f"{inside(pid)} touch /etc/touched", code=1)
    # Another user of the host neither reads anything of it nor talks to it. How it is run is no secret.
    paths = box.run("find /var/lib/virshle /run/virshle -not -path '*/image/*' -print0").stdout
    names = {"/".join(path.split("/")[-2:]) for path in paths.split("\0")}
    assert names >= {"disk/os", "log/console.log", "key/id_ed25519"}
    read = box.run([*OTHER, "python3", "-c", READ], stdin=paths).stdout.split()
    assert {path.rpartition("/")[2] for path in read} == {"vmm.sh"}
    # No secret is told to whom it may run with, nor to whom reads what it is run by.
    private = box.read("/var/lib/virshle/key/id_ed25519").splitlines()[1]
    told = box.run(
        f"cd {mine['folder']} && cat /proc/{pid}/cmdline /proc/{pid}/environ *.json *.sh *.log | tr '\\0' ' '"
    )
    assert mine["uuid"] in told.stdout
    assert private not in told.stdout
    box.v("delete", "other")


@ON_CLOUD_HYPERVISOR
def test_a_disk_that_another_vmm_has(web: Web) -> None:
    box = web.ready()
    box.v("create", "-t", "alone", "thief")
    mine, theirs = (box.info(name)["disks"][0]["file"] for name in ("web", "thief"))
    box.run(["ln", "-f", mine, theirs])
    said = box.v("start", "thief", code=6).stderr
    assert "already locked" in said
    assert "hint: another VMM has this disk open" in said
    assert box.state("thief") == "stopped"
    assert box.v("ssh", "web", "hostname").stdout == "web\n"
    box.v("delete", "thief")


@ON_CLOUD_HYPERVISOR
def test_what_curl_did_is_noticed(web: Web) -> None:
    box = web.ready()
    api = f"curl -sSf --unix-socket {box.info()['run']['folder']}/ch.sock -X PUT http://localhost/api/v1"
    box.run(f"{api}/vm.pause")
    assert box.state() == "paused"
    box.run(f"{api}/vm.resume")
    assert box.state() == "running"
    box.run(f"{api}/vmm.shutdown")
    box.wait_until(lambda: box.state() == "stopped")


@ON_CLOUD_HYPERVISOR
def test_landlock_keeps_it_from_what_it_was_not_given(web: Web) -> None:
    box = web.ready()
    run, file = box.info()["run"], "/usr/lib/os-release"
    # Anybody may read it, its VMM's user in its unit too: what is left to forbid it is landlock.
    box.run(f"{inside(run['pid'])} test -r {file}")
    disk = json.dumps({"path": file, "readonly": True, "image_type": "Raw"})
    api = f"curl -sS --unix-socket {run['folder']}/ch.sock -X PUT http://localhost/api/v1/vm.add-disk"
    assert "Permission denied" in box.run(f"{api} -H 'Content-Type: application/json' -d '{disk}'").stdout


def test_systemctl_tells_a_person(web: Web) -> None:
    box = web.ready()
    told = box.run("systemctl status --no-pager --full virshle-vm-web").stdout
    assert f"VM web, run by {web.hypervisor} for virshle" in told
    assert "console.log" in told
    # Without virshle: the power button, and no failure.
    box.run("mv /opt/virshle /opt/virshle.away")
    try:
        box.run("systemctl stop virshle-vm-web")
    finally:
        box.run("mv /opt/virshle.away /opt/virshle")
    assert "Going down for poweroff" in box.v("logs", "web").stdout
    assert box.state() == "stopped"
    assert box.services().get("virshle-vm-web.service") is None


def test_waiting_for_one_that_runs_already(web: Web) -> None:
    """What it said when nobody listened is gone; its ssh server answers."""
    box = web.stopped()
    box.v("start", "web")
    box.wait_until(lambda: "web is ready" in box.v("logs", "web").stdout)
    assert "running already" in box.v("start", "web", "--wait").stderr


def test_a_vmm_that_stands_still(web: Web) -> None:
    """SIGSTOP: every question to it is bounded, and it is left alone unless --force is given."""
    box = web.ready()
    pid = box.info()["run"]["pid"]
    box.run(f"kill -STOP {pid}")
    assert box.state() in ("unknown", "running")
    said = box.v("stop", "web", "--timeout", "3", code=8, timeout=60).stderr
    assert "left running" in said
    box.v("pause", "web", code=8, timeout=60)
    box.run(f"kill -CONT {pid}")
    assert box.v("ssh", "web", "hostname").stdout == "web\n"
    box.run(f"kill -STOP {pid}")
    assert "by force" in box.v("stop", "web", "--force", "--timeout", "1", timeout=90).stderr
    assert box.state() == "stopped"


def test_a_vmm_that_is_killed_is_shown_as_crashed(web: Web) -> None:
    box = web.stopped()
    box.v("start", "web")
    box.run(f"kill -KILL {box.info()['run']['pid']}")
    box.wait_until(lambda: box.state() == "crashed")
    assert box.ls()[0]["problem"].startswith("its VMM was killed by SIGKILL")
    assert box.services()["virshle-vm-web.service"] == "failed"
    # Stale sockets and a failed unit of its name are in nobody's way.
    web.ready()
    assert box.v("ssh", "web", "hostname").stdout == "web\n"
    box.run(f"kill -KILL {box.info()['run']['pid']}")
    box.wait_until(lambda: box.state() == "crashed")
    box.v("delete", "web")
    box.web = None
    assert box.services().keys() <= {"virshle.slice"}


def test_a_guest_that_ignores_the_power_button(web: Web) -> None:
    box = web.ready()
    # Nothing that handles the button is left, and nothing starts it again.
    box.v("ssh", "web", "rm /lib/tiny/power-button; killall acpid; cp /bin/true /lib/tiny/power-button", code=None)
    said = box.v("stop", "web", "--timeout", "2", code=8).stderr
    assert "left running" in said
    assert "v stop --force web" in said
    box.wait_until(lambda: box.state() == "running")
    assert "by force" in box.v("stop", "web", "--timeout", "1", "--force").stderr
    box.web = None


def test_no_line_of_the_doctor_ends_a_unit_that_runs(web: Web) -> None:
    """Its VM's folder was renamed by hand, or moved away, or has lost its launch.json."""
    box = web.ready()
    pid, home = box.info()["run"]["pid"], web.folder

    def remedies() -> set[str]:
        rows = json.loads(box.v("doctor", "--format", "json", code=None).stdout)
        found = {row["name"]: row["remedy"] for row in rows if (row["area"], row["ok"]) == ("state", "no")}
        assert not [line for line in found.values() if re.search(r"\b(kill|rm)\b|systemctl stop", line)]
        return set(found.values())

    for away in (f"{home}.bak", "/root/away"):
        box.run(f"mv -T {home} {away}")
        try:
            told = remedies()
            assert "is the name of a VM" in box.v("create", "-t", "alone", "web", code=5).stderr
        finally:
            box.run(f"mv -T {away} {home}")
        # Of what is elsewhere the unit's own mounts hide where: then it can be looked for.
        assert all(f"mv -T {away} {home}" in line or f"move it back to {home}" in line for line in told)
    box.run(f"mv {home}/launch.json /root/")
    try:
        assert remedies() == {"v stop web; v start web"}
        run = box.info()["run"]
        assert (run["pid"], run["unit"], run["hypervisor"]) == (pid, "virshle-vm-web", web.hypervisor)
        assert box.v("ssh", "web", "hostname").stdout == "web\n"
    finally:
        box.run(f"mv /root/launch.json {home}/")
    assert remedies() == set()
