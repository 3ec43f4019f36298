"""Where nixpkgs is, on a machine that has one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def find_nixpkgs() -> str:
    """All of it, or its lib: VIRSHLE_TEST_NIXPKGS, else what NIX_PATH names. Skips the test where there is none."""
    given = os.environ.get("VIRSHLE_TEST_NIXPKGS")
    if given is None:
        asked = subprocess.run(["nix-instantiate", "--find-file", "nixpkgs"], text=True, capture_output=True)
        given = asked.stdout.strip() if asked.returncode == 0 else None
    if given is None:
        pytest.skip("SKIPPED LOUDLY: no nixpkgs; VIRSHLE_TEST_NIXPKGS may name one, or a folder with its lib alone")
    return str(Path(given).resolve())
