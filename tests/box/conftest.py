"""A whole Debian host in QEMU, with systemd, Open vSwitch, Kea, nix and a /dev/kvm that works; cleaned after each test.

It is the one that `VIRSHLE_BOX` names; `./scripts/test box` makes one, and ends it.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "box"
LONG = 300.0
"""Seconds: a generous bound for anything in an emulated host on a busy machine."""

CLEAN = """
pgrep -f '^/opt/virshle/bin/python' | xargs -r kill -KILL
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
        self, *words: str, code: int | None = 0, timeout: float = LONG, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return self.run(["v", *words], code, timeout, stdin)

    def ls(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.v("ls", "--format", "json").stdout)
        return rows

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

    def power_cut(self) -> None:
        """Its QEMU is killed, and started again from the disk as that was; returns when it is back."""
        self.script("cut")
        self.script("up")

    def _boots(self) -> int:
        return (self.folder / "console").read_bytes().count(b"BOX-IS-UP")

    def clean(self) -> None:
        """No VM and no configuration, as on a host that has only the image tiny."""
        self.run(CLEAN)

    def configure(self, hypervisor: str, more: str = "") -> None:
        """The built-in template tiny on that VMM, and what else the test wants."""
        self.write("/etc/virshle/config.toml", TEMPLATE.format(hypervisor=hypervisor) + more)


TEMPLATE = """
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
"""


@pytest.fixture(scope="session")
def the_box(request: pytest.FixtureRequest) -> Box:
    name = os.environ.get("VIRSHLE_BOX")
    if not name:
        pytest.skip("no box: ./scripts/test box makes one; or VIRSHLE_BOX=NAME, whose VMs every test deletes")
    box = Box(name)
    if box.run("command -v cloud-hypervisor", code=None).returncode:
        request.config.stash[MISSING] = "cloud-hypervisor"
    return box


@pytest.fixture
def box(the_box: Box) -> Iterator[Box]:
    yield the_box
    the_box.clean()


@pytest.fixture(params=["cloud-hypervisor", "qemu"])
def hypervisor(request: pytest.FixtureRequest, the_box: Box) -> str:
    """Each VMM in turn."""
    if request.param == request.config.stash.get(MISSING, None):
        pytest.skip("no cloud-hypervisor in the box")
    return str(request.param)


MISSING = pytest.StashKey[str]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    yield
    if config.stash.get(MISSING, None):
        terminalreporter.write_line(
            "NOT COVERED: cloud-hypervisor is neither in PATH nor in VIRSHLE_TEST_CLOUD_HYPERVISOR; "
            "the box had only QEMU with nested KVM",
            red=True,
            bold=True,
        )
