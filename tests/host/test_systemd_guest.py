"""nixosModules.guest on a real systemd, with no nixpkgs: on Debian, built as an image and booted."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path

import pytest

from tests.debian import FACTS, FILE, NIX_CONFIG, check_facts, configuration, image_args, packages
from tests.host.host import Host
from tests.host.test_image import wait_for

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="SKIPPED LOUDLY: the Debian guest is x86_64's")


@pytest.fixture(scope="module")
def debs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages(tmp_path_factory.mktemp("apt"))


@pytest.mark.parametrize("boot", ["kernel", "efi"])
def test_it_boots_says_so_and_is_what_the_module_declares(bare: Host, debs: Path, boot: str) -> None:
    bare.configure(configuration(str(FILE), image_args(debs, boot), "qemu", net=True))
    bare.env["NIX_CONFIG"] = NIX_CONFIG
    assert "built debian" in bare.v("image", "build", "debian", timeout=900).stderr
    made = bare.v("create", "-t", "debian", "web", "--start", "--wait", "--timeout", "600", timeout=900).stderr
    assert "web to say that it is ready" in made

    (info,) = json.loads(bare.v("info", "web", "--format", "json").stdout)
    assert info["boot"]["kind"] == ("kernel" if boot == "kernel" else "firmware")
    firmware = 'echo "firmware=$([ -d /sys/firmware/efi ] && echo efi)"\n'
    done = bare.v("ssh", "web", FACTS + firmware)
    assert done.stderr == ""
    (told,), (known,) = bare.run.glob("vm/*/ready"), bare.state.glob("vm/*/known_hosts")
    check_facts(done.stdout, info, told.read_text(), known.read_text())
    assert ("firmware=efi" in done.stdout) == (boot == "efi")

    # Root is logged in where the log is kept, at a prompt.
    wait_for(lambda: "-bash-" in bare.v("logs", "web").stdout)
    assert "stopped web gracefully" in bare.v("stop", "web", "--timeout", "180").stderr
    bare.check()
    if boot == "kernel":
        (disk,) = bare.state.glob("vm/*/disk/os")
        subprocess.run(["e2fsck", "-fn", disk], check=True, capture_output=True)
