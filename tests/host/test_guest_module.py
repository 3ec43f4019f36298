"""nixosModules.guest, evaluated: by real NixOS where there is a nixpkgs, else by nixpkgs' module system alone and
options typed like NixOS's (tests/nix/nixos)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.nixpkgs import find_nixpkgs

pytestmark = pytest.mark.nix

NIX = Path(__file__).parents[1] / "nix"
GOLDEN = NIX / "golden"
QUIET = ("--option", "build-users-group", "")
_STORE = re.compile(r"/nix/store/[a-z0-9]{32}-([A-Za-z-]*[A-Za-z])(-[0-9][^/]*)?")


@pytest.fixture(scope="module")
def nixpkgs() -> str:
    return find_nixpkgs()


def evaluated(nixpkgs: str, name: str, more: str = "{ }") -> subprocess.CompletedProcess[str]:
    words = ["nix-instantiate", *QUIET, "--eval", "--strict", "--json", str(NIX / "eval.nix")]
    words += ["--argstr", "nixpkgs", nixpkgs, "--argstr", "name", name, "--arg", "more", more]
    return subprocess.run(words, text=True, capture_output=True)


def value(nixpkgs: str, name: str, more: str = "{ }") -> dict[str, Any]:
    done = evaluated(nixpkgs, name, more)
    assert done.returncode == 0, done.stderr
    # Which release of a package it is does not matter here.
    found: dict[str, Any] = json.loads(_STORE.sub(r"<\1>", done.stdout))
    return found


@pytest.mark.parametrize("name", ["kernel", "efi", "own"])
def test_what_it_makes_of_a_machine(nixpkgs: str, name: str) -> None:
    """VIRSHLE_TEST_GOLDEN=write makes the files anew."""
    found = value(nixpkgs, name)["summary"]
    file = GOLDEN / f"{name}.json"
    if os.environ.get("VIRSHLE_TEST_GOLDEN") == "write":
        file.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    assert found == json.loads(file.read_text())


@pytest.mark.parametrize("boot", ["kernel", "efi"])
def test_the_image_is_evaluated_whole(nixpkgs: str, boot: str) -> None:
    assert "virshle-image-" in value(nixpkgs, boot)["image"]


def test_what_the_user_says_goes_before_what_the_module_suggests(nixpkgs: str) -> None:
    found = value(nixpkgs, "kernel", '{ networking.hostName = "db"; boot.loader.timeout = null; }')["summary"]
    assert (found["hostName"], found["loader"]["timeout"]) == ("db", None)
    # The name that the host gives is not taken then.
    assert found["services"]["virshle-seed"]["environment"]["HOSTNAME_FILE"] == "/dev/null"


# What the module only suggests gives way to any word of anybody, the weakest of nixpkgs' own among them.
SUGGESTED = {
    "networking.useDHCP = lib.mkDefault true": ("useDHCP", True),
    'networking.hostName = lib.mkDefault "web"': ("hostName", "web"),
    'services.getty.autologinUser = "alice"': ("autologin", "alice"),
    'services.getty.autologinUser = lib.mkDefault "alice"': ("autologin", "alice"),
    "security.sudo.wheelNeedsPassword = lib.mkDefault true": ("sudo", True),
    "boot.growPartition = lib.mkDefault false": ("growPartition", False),
    "boot.loader.timeout = lib.mkDefault 5": ("loader.timeout", 5),
    "boot.initrd.systemd.enable = lib.mkDefault false": ("initrd.systemd", False),
    "services.openssh.settings.PasswordAuthentication = lib.mkDefault true": ("sshd.passwords", True),
    'services.openssh.hostKeys = [ { type = "rsa"; path = "/k"; } ]': ("sshd.keys", ["/k"]),
    'fileSystems."/".autoResize = false': ("fileSystems./.autoResize", False),
}
# What another machine's configuration says of its disk and its boot loader cannot hold for the image.
SHAPE = {
    'fileSystems."/".device = "/dev/disk/by-uuid/x"': ("fileSystems./.device", "/dev/disk/by-label/nixos"),
    'fileSystems."/".label = "root"': ("fileSystems./.device", "/dev/disk/by-label/nixos"),
    'fileSystems."/".fsType = "btrfs"': ("fileSystems./.fsType", "ext4"),
    'fileSystems."/boot" = { device = "/dev/disk/by-uuid/x"; fsType = "vfat"; options = [ "fmask=0022" ]; }': (
        "fileSystems./boot.device",
        {"efi": "/dev/disk/by-label/ESP", "kernel": None},
    ),
    "boot.loader.systemd-boot.enable = true": ("loader.systemd-boot", {"efi": True, "kernel": False}),
    "boot.loader.systemd-boot.enable = lib.mkDefault false": ("loader.systemd-boot", {"efi": True, "kernel": False}),
    "boot.loader.grub.enable = true": ("loader.grub", False),
    "boot.loader.efi.canTouchEfiVariables = true": ("loader.variables", False),
    'boot.loader.efi.efiSysMountPoint = "/boot/efi"': ("fileSystems./boot.device", {"kernel": None}),
    "system.build.installBootLoader = pkgs.coreutils": ("loader.grub", False),
}


def pick(summary: Any, path: str) -> Any:
    for part in path.split("."):
        summary = None if summary is None else summary.get(part)
    return summary


@pytest.mark.parametrize("text", SUGGESTED)
def test_what_the_module_suggests_gives_way(nixpkgs: str, text: str) -> None:
    path, wanted = SUGGESTED[text]
    assert pick(value(nixpkgs, "efi", f"{{ lib, ... }}: {{ {text}; }}")["summary"], path) == wanted


@pytest.mark.parametrize("boot", ["kernel", "efi"])
@pytest.mark.parametrize("text", SHAPE)
def test_the_shape_of_the_image_stays(nixpkgs: str, text: str, boot: str) -> None:
    path, wanted = SHAPE[text]
    found = pick(value(nixpkgs, boot, f"{{ lib, pkgs, ... }}: {{ {text}; }}")["summary"], path)
    if isinstance(wanted, dict):
        assert boot not in wanted or found == wanted[boot]
    else:
        assert found == wanted


@pytest.mark.parametrize("strength", ["mkForce", "mkVMOverride"])
def test_the_shape_gives_way_to_who_insists(nixpkgs: str, strength: str) -> None:
    """The latter is what `nixos-rebuild build-vm` makes of the same machine."""
    root = f'{{ device = lib.{strength} "/dev/vda"; label = lib.{strength} null; }}'
    found = value(nixpkgs, "kernel", f'{{ lib, ... }}: {{ fileSystems."/" = {root}; }}')["summary"]
    assert pick(found, "fileSystems./.device") == "/dev/vda"


def test_a_machine_without_sshd_has_none_on_the_vsock_and_says_so(nixpkgs: str) -> None:
    found = value(nixpkgs, "kernel", "{ services.openssh.enable = false; }")["summary"]
    assert found["sshd"]["enable"] is False
    assert found["sockets"] == {}
    assert set(found["services"]) == {"virshle-ready", "virshle-seed"}
    assert "`v ssh`" in found["warnings"][0]


def test_cloud_init_is_told_otherwise_by_a_plain_word(nixpkgs: str) -> None:
    settings = '{ preserve_hostname = false; datasource_list = [ "Ec2" ]; }'
    more = f"{{ virshle.guest.cloudInit = true; services.cloud-init.settings = {settings}; }}"
    found = value(nixpkgs, "kernel", more)["summary"]["cloudInit"]
    assert (found["preserve_hostname"], found["datasource_list"]) == (False, ["Ec2"])


@pytest.mark.parametrize("features", ['"nix-command flakes"', '[ "nix-command" ]'])
def test_features_of_nix_are_named_in_any_of_its_ways(nixpkgs: str, features: str) -> None:
    value(nixpkgs, "kernel", f"{{ nix.settings.experimental-features = {features}; }}")


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ('{ virshle.guest.boot = "grub"; }', "virshle.guest.boot"),
        ('{ virshle.guest.espSize = "big"; }', "virshle.guest.espSize"),
        ("{ virshle.guest.espSize = 16; }", "virshle.guest.espSize"),
        ("{ virshle.guest.usr = 1; }", "virshle.guest.usr"),
    ],
)
def test_an_option_that_is_wrong_is_named(nixpkgs: str, more: str, part: str) -> None:
    done = evaluated(nixpkgs, "kernel", more)
    assert done.returncode == 1
    # The error itself, which in newer Nix comes after a line for each place that led to it.
    *_, error = [line for line in done.stderr.splitlines() if line.strip().startswith("error:")]
    assert part in error
