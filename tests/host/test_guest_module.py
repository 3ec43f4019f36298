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
