"""nixosModules.guest on a real systemd, by KVM on each VMM, with no net: on Debian, built as an image and booted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.box import Box
from tests.debian import FACTS, FILE, NIX_CONFIG, check_facts, configuration, image_args, packages

if "VIRSHLE_TEST_GUEST" not in os.environ:
    pytest.skip("takes ten minutes where the box is emulated; VIRSHLE_TEST_GUEST=1", allow_module_level=True)

COPY = (
    '{ folder }: derivation { name = "debian"; system = builtins.currentSystem; builder = "/bin/sh"; '
    'folder = builtins.path { name = "folder"; path = /. + folder; }; '
    'args = [ "-ec" "/bin/cp -r $folder $out" ]; }'
)
_SECONDS = 1800
"""For a guest that boots where two processors are emulated, one in the other."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made on this machine: the box has no network."""
    folder = tmp_path_factory.mktemp("guest")
    args = image_args(packages(folder), "kernel")
    words = [word for name, value in args.items() for word in ("--argstr", name, value)]
    argv = ["nix-build", "--option", "build-users-group", "", str(FILE), *words, "-o", str(folder / "image")]
    done = subprocess.run(argv, env=os.environ | {"NIX_CONFIG": NIX_CONFIG}, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return folder / "image"


@pytest.fixture
def debian(box: Box, hypervisor: str, image: Path) -> Iterator[Box]:
    """A box in which it is an image named debian."""
    box.run("rm -rf /root/debian; mkdir /root/debian")
    with subprocess.Popen(["tar", "-C", f"{image}/", "-cSz", "."], stdout=subprocess.PIPE) as packed:
        unpack = [*box.ssh(), "tar -C /root/debian -xzm"]
        subprocess.run(unpack, stdin=packed.stdout, check=True, timeout=_SECONDS)
    box.write("/root/debian.nix", COPY)
    box.write(
        "/etc/virshle/config.toml",
        configuration("/root/debian.nix", {"folder": "/root/debian"}, hypervisor, net=False),
    )
    box.run(f"NIX_CONFIG='{NIX_CONFIG}' v image build debian", timeout=_SECONDS)
    yield box
    box.clean()
    box.run("rm -rf /root/debian* /var/lib/virshle/image/debian")


def test_it_boots_says_so_and_is_what_the_module_declares(debian: Box, hypervisor: str) -> None:
    """Ready and ssh come by vsock alone; on cloud-hypervisor ready is systemd's own word."""
    made = debian.v("create", "-t", "debian", "web", "--start", "--wait", "--timeout", str(_SECONDS), timeout=_SECONDS)
    assert "web to say that it is ready" in made.stderr
    info = debian.info()
    assert (info["run"]["hypervisor"], info["run"]["accelerator"]) == (hypervisor, "kvm")
    done = debian.v("ssh", "web", FACTS)
    assert done.stderr == ""
    told = debian.run("cat /run/virshle/vm/*/ready").stdout
    check_facts(done.stdout, info, told, debian.read(f"{info['folder']}/known_hosts"))
    debian.wait_until(lambda: "-bash-" in debian.v("logs", "web").stdout)
    assert "stopped web gracefully" in debian.v("stop", "web", "--timeout", "300", timeout=_SECONDS).stderr
    debian.run(["e2fsck", "-fn", f"{info['folder']}/disk/os"])
