"""A VM's vmm.sh and its folders, with a VMM that only sleeps."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from virshle.exec import run
from virshle.exec.process import launch, running
from virshle.model.vm import Vm
from virshle.vmm.driver import Launch, Machine, Place, Vmm
from virshle.vmm.launch import script

LONG = 60.0
"""Seconds: a generous bound for what takes none."""


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


@dataclass
class Script:
    """One VM's folders, its script, and all that was started of it."""

    place: Place
    token: str = "t0k3n"
    left: list[subprocess.Popen[str]] = field(default_factory=list)

    def write(self, *argv: str, button: str = "", helpers: tuple[str, ...] = (), token: str = "t0k3n") -> None:
        place = self.place
        self.token = token
        vmm = Vmm(
            argv=argv or ("sleep", "600"),
            output=place.console_log,
            stale=(place.run / "s.sock",),
            power_button=button or f"echo pressed >>'{self.pressed}'; kill -TERM \"$(cut -d' ' -f1 \"$record\")\"",
            helpers=helpers,
        )
        place.script.write_text(script(Machine(_vm(), place, _launch(token)), vmm))
        place.script.chmod(0o755)

    @property
    def pressed(self) -> Path:
        """Has a line for each time that the power button was pressed."""
        return self.place.run / "pressed"

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.place.script, *words], capture_output=True, text=True, timeout=LONG, check=False)

    def begin(self) -> int:
        """As virshle launches it; the VMM's pid, once the script has become it."""
        run(launch(self.place.script))
        return self.became()

    def became(self) -> int:
        """A record is written just before that."""
        script = str(self.place.script).encode()
        wait_until(lambda: script not in Path(f"/proc/{self.pid}/cmdline").read_bytes())
        return self.pid

    @property
    def pid(self) -> int:
        process = running(self.place.record)
        assert process is not None
        assert process.pid is not None
        return process.pid


def _vm() -> Vm:
    return Vm.model_validate(
        {
            "uuid": "0e0b4c4e-6a5b-4b5e-8d43-0f4c1a2b3c4d",
            "id": 1,
            "name": "web",
            "template": "t",
            "created": "2024-05-06T07:08:09Z",
            "vcpu": 1,
            "memory": 2**26,
            "boot": {"kind": "firmware", "variables": "boot/efivars.fd"},
            "disks": [{"name": "os", "file": "disk/os", "size": 1}],
            "origin": {"source": "x"},
        }
    )


def _launch(token: str) -> Launch:
    fixed: dict[str, Any] = dict.fromkeys(("program", "version", "accelerator", "why", "started"), "")
    return Launch(hypervisor="qemu", name="web", ssh_port=None, token=token, unit=None, user=None, **fixed)


def made(folder: Path) -> Script:
    place = Place(folder / "s", folder / "r")
    for path in (place.logs, place.run):
        path.mkdir(parents=True)
    place.record.touch()
    return Script(place)
