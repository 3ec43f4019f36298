"""The box as tests use it: commands in it, and a VM that they share."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.warm.client import NO_FAULT, Done, Fault, Warm

TREE = Path(__file__).parents[2]
SCRIPT = TREE / "scripts" / "box"
LONG = 300.0
"""Seconds: a generous bound for anything in an emulated host on a busy machine."""

CLEAN = """
pgrep -f '^/opt/virshle/bin/python.*bin/v ' | xargs -r kill -KILL
units=$(systemctl list-units --all --plain --no-legend 'virshle-*' | awk '{print $1}')
[ -z "$units" ] || systemctl kill --signal=KILL $units
pgrep -f '^[^ ]*(qemu-system-|cloud-hypervisor).*/virshle/' | xargs -r kill -KILL
[ -z "$units" ] || systemctl stop $units
systemctl reset-failed
find /var/lib/virshle -mindepth 1 -maxdepth 1 -not -name image -exec rm -rf {} +
rm -rf /run/virshle /etc/virshle
"""


class Box:
    """The host, entered by ssh as root."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.config = self.script("status").stdout.split()[3]
        self.folder = Path(self.config).parent
        self._warm: Warm | None = None
        self.web: Web | None = None

    def script(self, *words: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"VIRSHLE_BOX": self.name}
        done = subprocess.run([SCRIPT, *words], env=env, text=True, capture_output=True, timeout=timeout)
        assert done.returncode == 0, f"scripts/box {' '.join(words)}: {done.stdout}{done.stderr}"
        return done

    def ssh(self, *options: str) -> list[str]:
        """The words before a command."""
        return ["ssh", "-F", self.config, *options, "box"]

    def run(
        self, command: str | Sequence[str], code: int | None = 0, timeout: float = LONG, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Runs words, or a line of shell, and checks the exit code (None: any)."""
        line = command if isinstance(command, str) else shlex.join(command)
        done = subprocess.run([*self.ssh(), line], input=stdin, text=True, capture_output=True, timeout=timeout)
        if code is not None:
            assert done.returncode == code, f"{line}\nexited with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def v(
        self, *words: str, code: int | None = 0, timeout: float = LONG, stdin: str = "", fault: Fault = NO_FAULT
    ) -> Done:
        """The same as `run(["v", ...])`, without the seconds that Python takes to start there."""
        if self._warm is None or not self._warm.alive:
            self._warm = self._start_warm()
        try:
            done = self._warm.ask(words, timeout, stdin=stdin, fault=fault)
        except TimeoutError:
            self.end_warm()
            raise
        if code is not None:
            assert done.returncode == code, f"v {words}\nexited with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def _start_warm(self) -> Warm:
        for name in ("__main__.py", "driver.py"):
            self.write(f"/root/warm/tests/warm/{name}", (TREE / "tests/warm" / name).read_text())
        command = "cd /root && PYTHONPATH=/root/warm exec /opt/virshle/bin/python -m tests.warm"
        return Warm(subprocess.Popen([*self.ssh(), command], stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    def end_warm(self) -> None:
        """As its host ended, or what it does lasts too long."""
        if self._warm is not None:
            self.run("pkill -KILL -f '[t]ests.warm'", code=None)
            self._warm.end()
            self._warm = None

    def has_cloud_hypervisor(self) -> bool:
        return self.run("command -v cloud-hypervisor", code=None).returncode == 0

    def ls(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.v("ls", "--format", "json").stdout)
        return rows

    def info(self, name: str = "web") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.v("info", name, "--format", "json").stdout)[0]
        return found

    def state(self, name: str = "web") -> str:
        return next(str(row["state"]) for row in self.ls() if row["name"] == name)

    def spawn(self, command: str | Sequence[str], *, tty: bool = False) -> subprocess.Popen[bytes]:
        """Something to talk to, or to end; with `tty` it has a terminal there."""
        line = command if isinstance(command, str) else shlex.join(command)
        pipe = subprocess.PIPE
        options = ["-tt"] if tty else []
        return subprocess.Popen([*self.ssh(*options), line], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        self.run(f"install -D -m {mode:o} /dev/stdin {shlex.quote(path)}", stdin=text)

    def read(self, path: str) -> str:
        return self.run(["cat", path]).stdout

    def wait_until(self, condition: str | Callable[[], object], timeout: float = LONG) -> None:
        """`condition` is a line of shell that succeeds, or what returns something true."""
        end = time.monotonic() + timeout
        said = ""
        while time.monotonic() < end:
            if callable(condition):
                if condition():
                    return
                time.sleep(0.2)
            else:
                # In the box, so that waiting costs no logins.
                loop = f"for _ in $(seq 20); do ( {condition}\n) && exit 0; sleep 0.2; done; exit 1"
                done = self.run(loop, code=None, timeout=timeout)
                if done.returncode == 0:
                    return
                said = done.stdout[-2000:] + done.stderr[-2000:]
        pytest.fail(f"after {timeout:.0f} s still not: {condition}\n{said}")

    def services(self) -> dict[str, str]:
        """Virshle's units and what each is: active, failed, ..."""
        listed = self.run("systemctl list-units --all --plain --no-legend 'virshle-*'").stdout
        return {words[0]: words[2] for words in map(str.split, listed.splitlines())}

    def reboot(self) -> None:
        """As its administrator would; returns when it is back."""
        before = self._boots()
        self.run("systemctl reboot", code=None)
        self.wait_until(lambda: self._boots() > before)
        # The connection that all commands share may not have noticed.
        subprocess.run(self.ssh("-O", "exit"), capture_output=True, check=False, timeout=LONG)
        self.end_warm()

    def power_cut(self) -> None:
        """Its QEMU is killed, and started again from the disk as that was; returns when it is back."""
        self.script("cut")
        self.script("up")
        self.end_warm()

    def reset(self) -> None:
        """A fresh disk."""
        self.script("reset")
        self.end_warm()

    def _boots(self) -> int:
        return (self.folder / "console").read_bytes().count(b"BOX-IS-UP")

    def clean(self) -> None:
        """No VM and no configuration, as on a host that has only the image tiny."""
        self.web = None
        self.run(CLEAN)

    def configure(self, hypervisor: str, more: str = "") -> None:
        """The templates `tiny` and `alone`, which has no net, on that VMM; and what else the test wants."""
        self.write("/etc/virshle/config.toml", TEMPLATES.format(hypervisor=hypervisor) + more)


class Web:
    """A VM named web, without a net, that many tests use one after the other."""

    def __init__(self, box: Box, hypervisor: str) -> None:
        self.box, self.hypervisor = box, hypervisor
        box.clean()
        box.configure(hypervisor)
        box.v("create", "-t", "alone", "web")
        self.folder = str(box.info()["folder"])
        self._ready = ""

    def stopped(self) -> Box:
        if self.box.state() != "stopped":
            self.box.v("stop", "web", "--force", "--timeout", "0")
        return self.box

    def ready(self) -> Box:
        """Its ssh answers."""
        # Not by flock(1) where it is not there yet: that would make it, readable for all.
        file = f"{self.folder}/vmm.pid"
        record = self.box.run(f"[ ! -e {file} ] || flock -n {file} true || cat {file}").stdout
        if not record or record != self._ready:
            self.box.v("start", "web", "--wait")
            self._ready = self.box.read(f"{self.folder}/vmm.pid")
        return self.box


ON_CLOUD_HYPERVISOR = pytest.mark.parametrize("hypervisor", ["cloud-hypervisor"], indirect=True)
"""For what QEMU has not, or has otherwise."""

NO_CLOUD_HYPERVISOR = (
    "cloud-hypervisor is neither in PATH nor in VIRSHLE_TEST_CLOUD_HYPERVISOR: the box had only QEMU with nested KVM"
)

TEMPLATES = """
[[template.vm]]
name = "tiny"
vcpu = 1
vram = "256MiB"
hypervisor = "{hypervisor}"
[[template.vm.disk]]
name = "os"
image = "tiny"
size = "1GiB"
[[template.vm.net]]
name = "main"
type = "user"
[[template.vm]]
name = "alone"
vcpu = 1
vram = "256MiB"
hypervisor = "{hypervisor}"
[[template.vm.disk]]
name = "os"
image = "tiny"
size = "1GiB"
[[template.vm.disk]]
name = "data"
size = "64MiB"
"""
