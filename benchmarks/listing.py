"""`v ls` beside `virsh list --all`, with as many VMs that do not run."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.libvirt import Libvirt, libvirtd
from benchmarks.measure import Options, Row, at_most_times, command, medians, output
from benchmarks.place import V, environment, folder

_GOALS = ((200, 2.0), (1000, 1.0))
"""How many VMs, and how many times as long as virsh."""
_CONFIG = """
[[template.vm]]
name = "plain"
vram = "64MiB"
[[template.vm.disk]]
name = "os"
path = "image.raw"
[[template.vm.net]]
name = "main"
type = "user"
"""


def run(options: Options) -> list[Row]:
    rows, there = [], 0
    with folder() as top, libvirtd() as peer:
        env = environment(top)
        (top / "config.toml").write_text(_CONFIG)
        (top / "image.raw").write_bytes(b"\x55" * 2**12)
        for count, most in _GOALS:
            _make(env, peer, there, count)
            there = count
            ours, virsh = medians(
                options.rounds * 2, lambda: command([V, "ls"], env), lambda: command(peer.virsh("list", "--all"), env)
            )
            rows.append(at_most_times(f"v ls, {count} VMs", ours, "virsh list --all", virsh, most))
    return rows


def _make(env: dict[str, str], peer: Libvirt, there: int, count: int) -> None:
    """Raises AssertionError where they are not all listed."""
    new = [f"vm-{number}" for number in range(there, count)]
    create = [str(V), "create", "-t", "plain", "-n", str(len(new))]
    subprocess.run(create, env=env, check=True, capture_output=True)
    peer.define(new, Path(env["HOME"]) / "image.raw")
    for names in (output([V, "ls", "-q"], env), output(peer.virsh("list", "--all", "--name"), env)):
        assert len(names.split()) == count
