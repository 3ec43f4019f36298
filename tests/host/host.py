"""A state of its own on this machine, and `v` in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from virshle.config.paths import Paths
from virshle.service.check import Report, check
from virshle.service.node import Node

_BESIDE = Path(sys.executable).with_name("v")
V = _BESIDE if _BESIDE.exists() else Path(shutil.which("v") or _BESIDE)
"""In a virtual environment beside its Python; in `nix develop` in PATH."""
DRIVER = Path(__file__).parents[1] / "warm" / "driver.py"
LONG = 300.0
"""Seconds: a generous bound for anything that boots under emulation on a busy machine."""
_VMMS = (b"qemu-system-", b"cloud-hypervisor")


@dataclass
class Host:
    """A state of its own, and `v` in it."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.folder / "s"

    @property
    def run(self) -> Path:
        return self.folder / "r"

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    def configure(self, text: str) -> None:
        self.config.write_text(text)
        self.env["VIRSHLE_CONFIG"] = str(self.config)

    def environment(self) -> dict[str, str]:
        own = {"VIRSHLE_STATE_DIR": str(self.state), "VIRSHLE_RUN_DIR": str(self.run)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VIRSHLE_")}
        return kept | own | self.env

    def v(self, *words: str, code: int | None = 0, timeout: float = LONG) -> subprocess.CompletedProcess[str]:
        """Runs it and checks its exit code (None: any)."""
        return self._run([str(V), *words], code, timeout)

    def driven(
        self, action: str, moment: str, number: int, *words: str, code: int | None = None
    ) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """`v` with something done to it at a step; and the steps it began."""
        steps = self.folder / "steps"
        steps.unlink(missing_ok=True)
        argv = [sys.executable, str(DRIVER), action, moment, str(number), str(steps), "--", *words]
        done = self._run(argv, code, LONG)
        return done, steps.read_text().splitlines() if steps.exists() else []

    def _run(self, argv: list[str], code: int | None, timeout: float) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            argv, env=self.environment(), text=True, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL
        )
        if code is not None:
            assert done.returncode == code, f"{argv} exited with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def ls(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.v("ls", "--format", "json").stdout)
        return rows

    def folders(self, kind: str = "vm") -> set[str]:
        folder = self.state / kind
        return {path.name for path in folder.iterdir()} if folder.is_dir() else set()

    def vmms(self) -> list[int]:
        """Every process that has this state's folder in its arguments, and is no `v`."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if words[0].rpartition(b"/")[2].startswith(_VMMS) and str(self.state).encode() in b" ".join(words):
                    found.append(int(path.parent.name))
        return found

    def report(self) -> Report:
        """Of `v doctor`'s check of all there is of VMs."""
        origins = {"state": "test", "run": "test", "config": "test"}
        return check(Node(Paths(self.state, self.run, self.config, origins)))

    def check(self) -> None:
        """Nothing is wrong, and nothing without an owner: what every test may rely on after the next changing command,
        which leaves nothing to be cleaned either."""
        report = self.report()
        assert (report.violations, report.leftovers) == ([], [])
        rows = self.ls()
        assert report.whole == len(rows)
        for row in rows:
            assert self.v("info", row["name"], "--format", "json").stdout
        running = [row for row in rows if row["state"] in ("running", "paused")]
        assert len(self.vmms()) == len(running)
