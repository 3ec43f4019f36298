"""Flakes that build an image, made for tests, and what is recorded of what they built."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.host.host import Host
from virshle.model.arch import host_arch

SCRIPT = "/bin/dd if=/dev/zero of=$out bs=1048576 count={size}"
FLAKE = """{{ outputs = {{ self }}: {{
  image = derivation {{ name = "x"; builder = "/bin/sh"; system = "{system}"; args = [ "-c" "{script}" ]; }};
  nixosConfigurations.web.config.system.build.virshleImage = self.image;
  nixosConfigurations.wrong.config.system.build.virshleImage =
    throw "A definition for option `x' is not of type `string'. Definition values:\\n- In `y.nix': 1";
  nixosConfigurations.bare.config.system.build = {{ }};
  packages.{system}.image-nixos = self.image;
}}; }}
"""


def write_flake(folder: Path, size: int = 1, script: str = SCRIPT) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "flake.nix").write_text(FLAKE.format(script=script.format(size=size), system=host_arch().nix))


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=x", "-c", "user.email=x@localhost")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def flake(bare: Host) -> Path:
    """A folder beside the configuration, which names its image `own`."""
    folder = bare.folder / "flake"
    write_flake(folder)
    configure(bare, "./flake#image")
    bare.env["NIX_CONFIG"] = "sandbox = false\nsubstituters ="
    return folder


def configure(host: Host, reference: str) -> None:
    host.configure(
        f'[[image]]\nname = "own"\nnix = "{reference}"\n'
        '[[template.vm]]\nname = "own"\n[[template.vm.disk]]\nname = "os"\nimage = "own"\n'
    )


@pytest.fixture
def repository(flake: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("SKIPPED LOUDLY: git is not here")
    git(flake, "init", "-q")
    git(flake, "add", ".")
    git(flake, "commit", "-qm", "one")
    return flake


def record(host: Host, name: str = "own") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((host.state / "image" / name / "image.json").read_text())
    return found


def row(host: Host, *more: str) -> dict[str, Any]:
    rows = json.loads(host.v("image", "ls", "--format", "json", *more).stdout)
    found: dict[str, Any] = next(row for row in rows if row["name"] == "own")
    return found


def rebuilt(host: Host, line: str) -> str:
    """The store path that the line of `v info` gives."""
    program, verb, *words = shlex.split(line)
    if program == "nix-store":
        return realised(host, line)
    nix = [program, "--extra-experimental-features", "nix-command flakes", verb, "--no-link", "--json"]
    # Root's nix wants the group nixbld unless told otherwise.
    env = host.environment() | {"NIX_CONFIG": host.env["NIX_CONFIG"] + "\nbuild-users-group ="}
    done = subprocess.run([*nix, *words], env=env, check=True, capture_output=True, text=True)
    return str(json.loads(done.stdout)[0]["outputs"]["out"])


def realised(host: Host, line: str) -> str:
    env = host.environment() | {"NIX_CONFIG": "sandbox = false\nsubstituters =\nbuild-users-group ="}
    done = subprocess.run(shlex.split(line), env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()
