"""The template of the first virshle's users: a local raw EFI image, cloned, booted by UEFI."""

from __future__ import annotations

import hashlib
import platform
import time
from pathlib import Path

import pytest

from tests.host.efi import efi_image
from tests.host.host import LONG, Host

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the test's EFI image is for x86_64")

FIRST_VIRSHLES = """
[[template.vm]]
name = "xxs-offline"
vcpu = 1
vram = "512MiB"
[[template.vm.disk]]
name = "os"
path = "~/Iso/nixos.efi.img"

[[template.vm]]
name = "xxs"
vcpu = 1
vram = "512MiB"
[[template.vm.disk]]
name = "os"
path = "~/Iso/nixos.efi.img"
[[template.vm.net]]
name = "main"
[template.vm.net.type.user]
"""


@pytest.fixture
def iso(host: Host, tiny: Path, tmp_path: Path) -> Path:
    target = Path(host.env["HOME"]) / "Iso" / "nixos.efi.img"
    target.parent.mkdir()
    efi_image((tiny / "result").readlink(), tmp_path, target)
    host.configure(FIRST_VIRSHLES)
    return target


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.heart
def test_it_boots_and_the_original_is_untouched(host: Host, iso: Path) -> None:
    before = digest(iso)
    made = host.v("create", "-t", "xxs", "web", "--start", "--wait", "--timeout", "240")
    assert "ssh server to answer" in made.stderr
    assert host.v("ssh", "web", "test -d /sys/firmware/efi && hostname").stdout == "web\n"
    assert "Permanently added" not in host.v("ssh", "web", "sync").stderr
    host.v("stop", "web")
    assert digest(iso) == before


def test_offline_it_boots_too(host: Host, iso: Path) -> None:
    host.v("create", "-t", "xxs-offline", "web")
    said = host.v("start", "web", "--wait", code=5).stderr
    assert "nothing can say when web is ready" in said
    assert "no way in for ssh" in host.v("ssh", "web", code=5).stderr
    deadline = time.monotonic() + LONG
    while "web is ready" not in host.v("logs", "web").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    host.v("stop", "web")
    host.check()
