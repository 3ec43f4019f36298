"""README's first command, on a host where all that it needs is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.host.host import LONG, Host, V

TREE = Path(__file__).parents[2]
_BLIND = f"""#!/bin/sh
case $1 in ls) exit ;; esac
exec {V} "$@"
"""
"""`v`, for which the VM of the demo's name was created just after the demo had looked."""


def demo(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    script = host.folder / "tree/scripts/demo"
    return subprocess.run([script, *words], env=host.environment(), capture_output=True, text=True, timeout=LONG)


@pytest.fixture
def tree(host: Host) -> Path:
    """A clone whose Python environment is made already, with the `v` of these tests."""
    tree = host.folder / "tree"
    (tree / ".venv/bin").mkdir(parents=True)
    for name in ("scripts", "pyproject.toml", "requirements.txt"):
        subprocess.run(["cp", "-r", TREE / name, tree], check=True)
    stamp = "cd $0 && . scripts/lib.sh && stamp requirements.txt >.venv/stamp"
    subprocess.run(["bash", "-c", stamp, tree], check=True)
    (tree / ".venv/bin/v").write_text(_BLIND)
    (tree / ".venv/bin/v").chmod(0o755)
    return tree


def test_it_deletes_no_vm_that_it_did_not_make(tree: Path, host: Host) -> None:
    host.v("create", "-t", "tiny", "demo")
    done = demo(host)
    assert "there is a VM named 'demo' already" in done.stderr
    assert done.returncode == 5
    assert [row["name"] for row in host.ls()] == ["demo"]


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["-h"], 0), (["--force"], 2), (["a", "b"], 2)])
def test_it_does_nothing_but_tell_its_usage(words: list[str], code: int, tree: Path, host: Host) -> None:
    (tree / ".venv/stamp").unlink()
    done = demo(host, *words)
    assert done.returncode == code
    assert "usage: scripts/demo [NAME]" in done.stdout + done.stderr
    assert not (tree / ".venv/stamp").exists()
