"""tests/nix/nixpkgs/names.toml is true of the nixpkgs that is here, and what stands in for nixpkgs offers no more."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.nixpkgs import find_nixpkgs

pytestmark = pytest.mark.nix

NIX = Path(__file__).parents[1] / "nix"
EVALUATE = ("nix-instantiate", "--option", "build-users-group", "", "--eval", "--strict", "--json")


@pytest.mark.parametrize(
    ("kind", "offered", "what"),
    [
        ("packages", "{ hypervisor-fw = 1; }", "hypervisor-fw"),
        ("packages", "{ stdenv.hostPlatform.linux-kernel.target = 1; }", "stdenv.hostPlatform.linux-kernel"),
        ("packages", "{ python3Packages.import-linter = 1; }", "python3Packages.import-linter"),
        ("lib", "{ types.odd = 1; }", "types.odd"),
    ],
)
def test_a_stand_in_offers_no_name_that_nixpkgs_has_not(kind: str, offered: str, what: str) -> None:
    words = [*EVALUATE, "-E", f'(import {NIX}/nixpkgs/names.nix).only "{kind}" {offered}']
    done = subprocess.run(words, text=True, capture_output=True)
    assert done.returncode == 1
    assert f"{kind}: {what} is offered here" in done.stderr


def test_every_name_is_one_of_the_nixpkgs_that_is_here() -> None:
    words = [*EVALUATE, str(NIX / "missing.nix"), "--argstr", "nixpkgs", find_nixpkgs()]
    done = subprocess.run(words, text=True, capture_output=True, check=True)
    assert json.loads(done.stdout) == {"lib": [], "packages": []}
