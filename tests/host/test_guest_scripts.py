"""What a NixOS guest runs of virshle's, run here: on a seed as the host makes it, and with nobody who listens."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.support import KEY, make_vm
from virshle.plan import Apply, Plan
from virshle.userdata import seed_steps

MODULE = Path(__file__).parents[2] / "nixos-module"


class Guest:
    """Its devices and its files are in a folder; what it lacks here is a script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            "SEED": str(folder / "seed.img"),
            "KEYS": str(folder / "run" / "keys" / "root"),
            "HOSTNAME_FILE": str(folder / "hostname"),
            "HOST_KEY": str(folder / "host_key.pub"),
            "PORT": str(folder / "port"),
            "NICS": str(folder / "net"),
            "WAIT_ONLINE": str(folder / "bin" / "wait-online"),
            "CREDENTIALS_DIRECTORY": str(folder / "credentials"),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}:/usr/sbin",
        }
        for name in ("net", "credentials", "bin"):
            (folder / name).mkdir()
        self.program("udevadm", "exit 0")

    def program(self, name: str, text: str) -> None:
        file = self.folder / "bin" / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def run(self, script: str) -> str:
        """As NixOS runs it, with -e."""
        done = subprocess.run(
            ["bash", "-e", str(MODULE / script)], env=self.env, text=True, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def text(self, name: str) -> str:
        return Path(self.env[name]).read_text()


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def give_seed(guest: Guest, name: str = "web-1") -> None:
    with Apply() as apply:
        apply(Plan(name, seed_steps(make_vm(name), guest.folder, guest.folder / "seed.img")))


def test_name_and_keys_are_taken_from_the_hosts_seed(guest: Guest) -> None:
    give_seed(guest)
    guest.run("seed.sh")
    assert guest.text("HOSTNAME_FILE") == "web-1\n"
    assert guest.text("KEYS") == f"{KEY}\n"
    # As the host says it the next time.
    give_seed(guest, "db")
    guest.run("seed.sh")
    assert guest.text("HOSTNAME_FILE") == "db\n"


def test_anybody_may_read_the_keys_as_sshd_reads_them_as_who_logs_in(guest: Guest) -> None:
    give_seed(guest)
    guest.run("seed.sh")
    assert Path(guest.env["KEYS"]).stat().st_mode & 0o777 == 0o644
    assert Path(guest.env["KEYS"]).parent.stat().st_mode & 0o777 == 0o755


def test_without_a_seed_all_stays_as_it_is(guest: Guest) -> None:
    assert "no seed" in guest.run("seed.sh")
    assert not Path(guest.env["KEYS"]).exists()


def test_of_another_programs_seed_the_name_alone_is_taken(guest: Guest) -> None:
    (guest.folder / "meta-data").write_text("instance-id: x\nlocal-hostname: web\n")
    seed = guest.env["SEED"]
    subprocess.run(["mkfs.vfat", "-n", "CIDATA", "-C", seed, "1024"], env=guest.env, check=True, capture_output=True)
    subprocess.run(["mcopy", "-i", seed, str(guest.folder / "meta-data"), "::"], check=True)
    assert "no keys" in guest.run("seed.sh")
    assert guest.text("HOSTNAME_FILE") == "web\n"
    assert list(Path(guest.env["KEYS"]).parent.iterdir()) == []


@pytest.mark.parametrize("name", ["$(touch x)", "-n", "../up", "a b", "web\n; reboot", ""])
def test_a_name_that_is_none_is_not_taken(guest: Guest, name: str) -> None:
    (guest.folder / "meta-data").write_text(f"local-hostname: {name}\n")
    seed = guest.env["SEED"]
    subprocess.run(["mkfs.vfat", "-n", "CIDATA", "-C", seed, "1024"], env=guest.env, check=True, capture_output=True)
    subprocess.run(["mcopy", "-i", seed, str(guest.folder / "meta-data"), "::"], check=True)
    guest.run("seed.sh")
    said = guest.text("HOSTNAME_FILE") if Path(guest.env["HOSTNAME_FILE"]).exists() else None
    assert said == ("web\n" if name.startswith("web") else None)


def test_ready_is_written_to_qemus_port_with_the_key_before_it(guest: Guest) -> None:
    Path(guest.env["HOST_KEY"]).write_text("ssh-ed25519 AAAA root@web\n")
    Path(guest.env["PORT"]).write_text("")
    guest.run("ready.sh")
    assert guest.text("PORT") == "X_VIRSHLE_SSH_HOST_KEY=ssh-ed25519 AAAA\nSTATUS=Ready.\nREADY=1\n"


def test_over_vsock_the_key_alone_is_said_as_systemd_says_the_rest(guest: Guest) -> None:
    Path(guest.env["HOST_KEY"]).write_text("ssh-ed25519 AAAA root@web\n")
    (guest.folder / "credentials" / "vmm.notify_socket").write_text("vsock-stream:2:9000")
    guest.program("socat", f'echo "$@" >{guest.folder}/called; cat >{guest.folder}/heard')
    guest.run("ready.sh")
    assert (guest.folder / "called").read_text() == "-u - VSOCK-CONNECT:2:9000\n"
    assert (guest.folder / "heard").read_text() == "X_VIRSHLE_SSH_HOST_KEY=ssh-ed25519 AAAA\n"
    assert not Path(guest.env["PORT"]).exists()


def test_where_nobody_listens_it_is_ready_all_the_same(guest: Guest) -> None:
    (guest.folder / "credentials" / "vmm.notify_socket").write_text("vsock-stream:2:9000")
    guest.program("socat", "exit 1")
    assert "does not listen" in guest.run("ready.sh")


def test_a_net_is_waited_for_only_where_there_is_a_nic(guest: Guest) -> None:
    guest.program("wait-online", f'echo "$@" >>{guest.folder}/waited; exit 1')
    # The loopback has no device.
    (guest.folder / "net" / "lo").mkdir()
    assert guest.run("ready.sh") == ""
    for name in ("ens3", "ens4"):
        (guest.folder / "net" / name / "device").mkdir(parents=True)
    assert guest.run("ready.sh") == "no network yet\n"
    assert (guest.folder / "waited").read_text() == "--any --timeout=10\n"
