"""`vmm.sh stop` of a real guest on QEMU, where most of what it wants is gone."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.host.host import LONG, Host


def test_a_paused_guest_powers_off_where_little_is_left(host: Host) -> None:
    """Its runtime folder was moved, and of the programs that press the button only perl is there."""
    host.v("create", "-t", "tiny", "web", "--start", "--wait", "--timeout", "600")
    host.v("pause", "web")
    programs = host.folder / "programs"
    programs.mkdir()
    for name in ("sh", "dirname", "flock", "timeout", "sleep", "perl"):
        (programs / name).symlink_to(Path(shutil.which(name) or name).resolve())
    (folder,) = host.state.glob("vm/*")
    host.run.rename(host.run.with_name("away"))
    env = {**os.environ, "PATH": str(programs)}
    done = subprocess.run([folder / "vmm.sh", "stop"], env=env, text=True, capture_output=True, timeout=LONG)
    assert done.returncode == 0, done.stderr
    assert "pressed the power button of web" in done.stdout
    assert "Going down for poweroff" in (folder / "log/console.log").read_text(errors="replace")
    (row,) = host.ls()
    assert row["state"] == "stopped"
