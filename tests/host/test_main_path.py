"""The main path: from a template to a shell in the guest and away again."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from pathlib import Path

import pytest

from tests.host.host import LONG, Host
from virshle.model.arch import host_arch
from virshle.vmm.kvm import kvm_problem

pytestmark = pytest.mark.heart


def test_create_start_ssh_stop_delete(host: Host) -> None:
    done = host.v("create", "-t", "tiny", "web", "--start", "--wait")
    assert done.stdout == "web\n"
    assert re.search(r"waited \d+\.\d s for web to say that it is ready", done.stderr)
    (row,) = host.ls()
    assert (row["id"], row["name"], row["state"]) == (1, "web", "running")

    assert host.v("ssh", "web", "hostname").stdout == "web\n"
    assert host.v("ssh", "web", "exit 7", code=7).stdout == ""
    assert host.v("ssh", "web", "echo", "two  spaces", "$HOME").stdout == "two  spaces $HOME\n"
    assert "virshle" in host.v("ssh", "web", "cat /root/.ssh/authorized_keys").stdout
    size = int(host.v("ssh", "web", "df -k / | awk 'END {print $2}'").stdout)
    assert size > 900 * 1024, "the file system was not grown to the template's 1GiB"

    assert "stopped web gracefully" in host.v("stop", "web").stderr
    assert host.ls()[0]["state"] == "stopped"
    host.v("delete", "web")
    assert host.ls() == []
    host.check()
    assert list((host.run / "vm").iterdir()) == []


def test_host_key_is_pinned_and_stays(host: Host) -> None:
    host.v("create", "-t", "tiny", "web", "--start", "--wait")
    first = host.v("ssh", "web", "true")
    assert first.stderr == ""
    known = next(host.state.glob("vm/*/known_hosts")).read_text()
    host.v("stop", "web")
    host.v("start", "web", "--wait")
    assert host.v("ssh", "web", "true").stderr == ""
    assert next(host.state.glob("vm/*/known_hosts")).read_text() == known


def test_a_key_of_another_guest_is_refused(host: Host) -> None:
    host.v("create", "-t", "tiny", "web", "--start", "--wait")
    (ready,) = host.run.glob("vm/*/ready")
    text = ready.read_text()
    # As if another machine answered on the port: the guest told a key, and this is not it.
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFJpZ2h0IGtleSwgd3JvbmcgbWFjaGluZSwgc29ycnkhISE="
    ready.write_text(re.sub(r"(?m)^X_VIRSHLE_SSH_HOST_KEY=.*$", f"X_VIRSHLE_SSH_HOST_KEY={other}", text))
    assert "Host key verification failed" in host.v("ssh", "web", "true", code=255).stderr


def test_copies_have_names_numbers_and_private_disks(host: Host) -> None:
    made = host.v("create", "-t", "tiny", "-n", "3").stdout.split()
    assert len(set(made)) == 3
    assert all(re.fullmatch(r"[a-z]+-[a-z]+(-\d+)?", name) for name in made)
    assert [row["id"] for row in host.ls()] == [1, 2, 3]
    disks = list(host.state.glob("vm/*/disk/os"))
    assert {disk.stat().st_size for disk in disks} == {2**30}
    assert {stat.S_IMODE(disk.stat().st_mode) for disk in disks} == {0o600}
    assert len({disk.stat().st_ino for disk in disks}) == 3
    host.v("create", "-t", "tiny", "db", "-n", "2")
    assert [row["name"] for row in host.ls()][3:] == ["db-1", "db-2"]
    host.v("delete", "2")
    host.v("create", "-t", "tiny", "second")
    assert {row["name"]: row["id"] for row in host.ls()}["second"] == 2
    host.check()


def test_upstream_verbs_and_selectors(host: Host) -> None:
    host.v("vm", "create", "--template", "tiny", "web")
    uuid = host.ls()[0]["uuid"]
    for selector in (
        ["--name", "web"],
        ["--id", "1"],
        ["--uuid", uuid],
        ["web"],
        ["1"],
        [uuid],
        ["--state", "shutdown"],
    ):
        shown = json.loads(host.v("vm", "ls", *selector, "--format", "json").stdout)
        assert [row["name"] for row in shown] == ["web"], selector
    host.v("vm", "rm", "--id", "1")
    assert host.ls() == []


def test_every_command_is_shown_and_kept(host: Host) -> None:
    host.v("create", "-t", "tiny", "web")
    shown = host.v("start", "web", "-vvv").stderr
    assert "+ mkfs.vfat" in shown
    assert re.search(r"\+ sh -c .*setsid .*vmm.sh", shown)
    host.v("stop", "--force", "--timeout", "0", "web")
    kept = host.v("logs", "web", "--commands").stdout
    for part in ("cp --reflink=auto", "ln -sT", "mv -T", "mkfs.vfat", "qemu-system", "system_powerdown", "kill -TERM"):
        assert part in kept, part


def test_a_dry_run_touches_nothing(host: Host) -> None:
    before = sorted(str(path) for path in host.folder.rglob("*"))
    shown = host.v("create", "-t", "tiny", "web", "--dry-run").stdout
    assert "cp --reflink=auto" in shown
    assert sorted(str(path) for path in host.folder.rglob("*")) == before
    host.v("create", "-t", "tiny", "web")
    before = sorted(str(path) for path in host.folder.rglob("*"))
    assert "qemu-system" in host.v("start", "web", "--dry-run").stdout
    assert "mv -T" in host.v("delete", "web", "--dry-run").stdout
    assert sorted(str(path) for path in host.folder.rglob("*")) == before


def test_a_dry_run_of_create_is_a_script_that_works(host: Host) -> None:
    """What is shown is what is done: pasted into a shell, it makes the VM."""
    host.v("create", "-t", "tiny", "key-maker")
    script = host.v("create", "-t", "tiny", "pasted", "--dry-run").stdout
    subprocess.run(["bash", "-euc", script], check=True, timeout=120)
    assert {row["name"] for row in host.ls()} == {"key-maker", "pasted"}
    host.check()
    host.v("start", "pasted", "--wait")
    assert host.v("ssh", "pasted", "hostname").stdout == "pasted\n"


def test_emulation_is_said(host: Host) -> None:
    said = host.v("create", "-t", "tiny", "web", "--start").stderr
    assert ("software emulation" in said) == bool(kvm_problem(host_arch()))


def test_users_may_enter_tiny_by_their_keys(host: Host, tmp_path: Path) -> None:
    keygen = ("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "key")
    subprocess.run(keygen, check=True)
    data = tmp_path / "user-data.toml"
    data.write_text(
        '[[user]]\nname = "anon"\n[user.ssh]\n'
        f'authorized_keys = ["""{(tmp_path / "key.pub").read_text()}"""]\n'
        '[[user]]\nname = "nobody"\n'
        '[account]\nuuid = "6cff9c9c-8713-40ca-b950-669bae24d9c9"\n'
    )
    host.v("create", "-t", "tiny", "web", "-u", str(data), "--start", "--wait")
    rows = host.v("ls", "--account", "6cff9c9c-8713-40ca-b950-669bae24d9c9", "-q").stdout
    assert rows == "web\n"
    # At each start anew, and the same user.
    for turn in ("first", "second"):
        assert host.v("ssh", "-l", "anon", "web", "whoami; pwd; id -u; ls; touch mine").stdout.split() == [
            *("anon", "/home/anon", "1000", *(["mine"] if turn == "second" else []))
        ]
        way = host.ls()[0]["ssh"].rpartition(":")[2]
        options = ("IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")
        words = ["ssh", "-F", "none", "-i", str(tmp_path / "key"), *(f"-o{option}" for option in options)]
        words += ["-p", way, "anon@127.0.0.1", "cat /root/x || whoami"]
        assert subprocess.run(words, capture_output=True, text=True, timeout=LONG).stdout == "anon\n"
        assert host.v("ssh", "web", "whoami").stdout == "root\n"
        # A name that the guest has for its own use.
        assert "Permission denied" in host.v("ssh", "-l", "nobody", "web", "true", code=255).stderr
        host.v("stop", "web")
        host.v("start", "web", "--wait")


_SEEN = "ls -A /root; ls -ld /root /root/.ssh /etc/passwd | awk '{ print $1, $3 }'; md5sum /etc/passwd"


def test_no_user_of_tiny_makes_root_write_through_a_link_in_a_home(host: Host, tmp_path: Path) -> None:
    data = tmp_path / "user-data.toml"
    data.write_text('[[user]]\nname = "anon"\n')
    host.v("create", "-t", "tiny", "web", "-u", str(data), "--start", "--wait")
    before = host.v("ssh", "web", _SEEN).stdout
    for trap in (
        "rm -rf .ssh && ln -s /root .ssh",
        "ln -sf /root .ssh/authorized_keys && ln /etc/passwd .ssh/new; ls .ssh",
    ):
        host.v("ssh", "-l", "anon", "web", trap)
        host.v("stop", "web")
        host.v("start", "web", "--wait")
        assert host.v("ssh", "web", _SEEN).stdout == before
        assert host.v("ssh", "-l", "anon", "web", "whoami").stdout == "anon\n"


def test_a_cloud_config_is_refused_where_nothing_would_read_it(host: Host, tmp_path: Path) -> None:
    data = tmp_path / "cloud.yaml"
    data.write_text("#cloud-config\npackages: [nginx]\n")
    said = host.v("create", "-t", "tiny", "web", "--cloud-init", str(data), code=3).stderr
    assert "image 'tiny' has no cloud-init" in said
    assert host.ls() == []
