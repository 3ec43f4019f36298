"""A guest of Debian's packages with what nixos-module/ declares (tests/nix/debian): real systemd, without nixpkgs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.nixpkgs import find_nixpkgs

FILE = Path(__file__).parent / "nix" / "debian" / "default.nix"
SUITE = "trixie"
NIX_CONFIG = "sandbox = false\nsubstituters ="
"""This machine's programs make the image, and no cache has it."""
_WITH_WHAT_THEY_NEED = (
    *("base-files", "base-passwd", "bash", "coreutils", "dash", "dbus", "fdisk", "findutils", "grep", "kmod"),
    *("libpam-modules", "login", "mount", "mtools", "openssh-server", "sed", "socat", "systemd-sysv", "udev"),
    "util-linux",
)
_KERNEL = "linux-image-cloud-amd64"
# growpart without the Python that comes along.
_ALONE = ("busybox-static", "cloud-guest-utils", "systemd-boot-efi")
SIZE = 4 * 2**30
"""Bytes of the VM's disk."""
FACTS = """
units="virshle-seed virshle-ready virshle-ssh.socket sshd systemd-networkd systemd-growfs-root serial-getty@ttyS0"
echo "failed=$(systemctl list-units --failed --plain --no-legend)"
echo "units=$(systemctl is-active $units | tr '\\n' ' ')"
echo "name=$(cat /proc/sys/kernel/hostname)"
echo "machine=$(cat /etc/machine-id)"
echo "key=$(cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub)"
echo "root=$(stat -f -c '%b * %S' / | { read -r line; echo $((line)); })"
echo "modules=$(ls /lib/modules)"
echo "kernel=$(uname -r)"
echo "passwords=$(sshd -T | sed -n 's/^passwordauthentication //p')"
"""
_URI = re.compile(r"^'(?P<url>\S+)' (?P<name>[^\s_]+)_\S+ \d+ SHA256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE)
_PROGRAMS = ("apt-get", "dpkg-deb", "fakeroot", "mcopy", "sfdisk", "sqlite3")
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def packages(folder: Path) -> Path:
    """A list of what it is made of, as the Nix file reads it. Skips the test where it cannot be made."""
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        pytest.skip(f"SKIPPED LOUDLY: no {', '.join(missing)} to make a Debian guest with")
    find_nixpkgs()  # or skips, before anything is fetched
    file = folder / "debs.json"
    file.write_text(json.dumps(_asked(folder), indent=1))
    return file


def image_args(debs: Path, boot: str) -> dict[str, str]:
    """What FILE is given. `boot`: kernel or efi. Skips the test where there is no nixpkgs."""
    return {"nixpkgs": find_nixpkgs(), "debs": str(debs), "path": _PATH, "boot": boot}


def configuration(file: str, args: dict[str, str], hypervisor: str, net: bool) -> str:
    """An image and a template, both named debian. `file`: the Nix file."""
    words = ", ".join(f"{name} = {json.dumps(value)}" for name, value in args.items())
    return (
        f'[[image]]\nname = "debian"\nfile = "{file}"\nargs = {{ {words} }}\n'
        f'[[template.vm]]\nname = "debian"\nvram = "512MiB"\nhypervisor = "{hypervisor}"\n'
        f'[[template.vm.disk]]\nname = "os"\nimage = "debian"\nsize = "{SIZE // 2**30}GiB"\n'
        + ('[[template.vm.net]]\nname = "main"\ntype = "user"\n' if net else "")
    )


def check_facts(said: str, info: dict[str, Any], told: str, known: str) -> None:
    """`said`: what FACTS prints. `info`: of `v info --format json`. `told`: what the guest said of itself. `known`: the
    VM's known_hosts."""
    facts = dict(line.split("=", 1) for line in said.splitlines())
    assert facts["failed"] == ""
    assert set(facts["units"].split()) == {"active"}
    assert facts["name"] == info["name"]
    # Of the image there is none; systemd takes the machine's.
    assert facts["machine"] == info["uuid"].replace("-", "")
    # Told before anybody came by ssh, and before it was ready.
    assert f"X_VIRSHLE_SSH_HOST_KEY={facts['key']}\n" in told.partition("READY=1")[0]
    assert known.split()[1:] == facts["key"].split()
    assert int(facts["root"]) > 0.85 * SIZE, "the file system was not grown to the template's size"
    # Of the kernel that runs, by the link where kmod looks.
    assert facts["modules"] == facts["kernel"]
    assert facts["passwords"] == "no"


def _asked(folder: Path) -> list[dict[str, str]]:
    """Name, place and hash of each, by apt in a state of its own, from where this machine's packages come from."""
    asked = ("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    mirrors = [line for line in _said(*asked).split() if line.endswith("/debian/")]
    if not mirrors:
        pytest.skip("SKIPPED LOUDLY: this machine's apt knows no Debian mirror to make a Debian guest from")
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "sources.list").write_text(f"deb {mirrors[0]} {SUITE} main\n")
    own = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        # As if nothing were installed, so that every library is named.
        "Dir::State::Status": "/dev/null",
        "Dir::Cache": folder,
        "Dir::Cache::Archives": "/nonexistent",
        "Acquire::ForceHash": "SHA256",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "1",
    }
    options = [word for name, value in own.items() for word in ("-o", f"{name}={value}")]
    _said("apt-get", *options, "-qq", "update")
    kernel = re.search(r"Depends: (linux-image-\S+)", _said("apt-cache", *options, "depends", _KERNEL))
    assert kernel
    found = _said(
        "apt-get", *options, "-y", "--print-uris", "--no-install-recommends", "install", *_WITH_WHAT_THEY_NEED
    )
    found += _said("apt-get", *options, "--print-uris", "download", *_ALONE, kernel[1])
    return sorted((hit.groupdict() for hit in _URI.finditer(found)), key=lambda package: package["name"])


def _said(*words: str) -> str:
    done = subprocess.run(words, text=True, capture_output=True)
    assert done.returncode == 0, f"{words}\n{done.stderr}"
    return done.stdout
