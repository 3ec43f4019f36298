"""Where faults are made: a host with a state of its own, on a small file system, and a VM that nobody may harm."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.operations import Case, Operation
from tests.host.conftest import Host
from tests.warm.client import NO_FAULT, Done, Fault, Warm

_SIZE = "64m"
_SECONDS = 120.0
_KEPT = "kept"
_CONFIG = """
[[template.vm]]
name = "plain"
vram = "64MiB"
hypervisor = "qemu"
[[template.vm.disk]]
name = "os"
path = "{image}"
"""


class _SmallHost(Host):
    """Its state is on a file system of its own."""

    @property
    def state(self) -> Path:
        return self.folder / "fs/s"


class Lab:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.fs = host.folder / "fs"
        env = host.environment()
        tree = Path(__file__).parents[2]
        server = [sys.executable, "-m", "tests.warm"]
        pipe = subprocess.PIPE
        self._warm = Warm(subprocess.Popen(server, cwd=tree, env=env, stdin=pipe, stdout=pipe))
        self.v("create", "-t", "plain", _KEPT)
        self.v("start", _KEPT)
        self.v("pause", _KEPT)
        self._kept = self._look_at_kept()

    def end(self) -> None:
        self._warm.end()
        for pid in self.host.vmms():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def v(self, *words: str, fault: Fault = NO_FAULT) -> Done:
        return self._warm.ask(words, _SECONDS, fault=fault)

    def states(self) -> dict[str, str]:
        """Of all VMs but the one that nobody may harm."""
        rows = json.loads(self.v("ls", "--format", "json").stdout)
        return {row["name"]: row["state"] for row in rows if row["name"] != _KEPT}

    def steps(self, operation: Operation) -> int:
        """How many steps it has when nothing goes wrong."""
        self._bring(operation)
        done = self.v(*operation.words)
        assert done.returncode == 0, done.stderr
        assert self.states() == operation.wanted
        self.clear()
        return len(done.steps)

    def _bring(self, operation: Operation) -> None:
        for words in operation.before:
            done = self.v(*words)
            assert done.returncode == 0, done.stderr

    def run(self, case: Case) -> tuple[int, list[str]]:
        """The exit code of the command that the fault was made to, and what was violated."""
        self._bring(case.operation)
        done = self.v(*case.operation.words, fault=case.fault(str(self.fs), self._vmms()))
        self._mend()
        # A stop has other steps where the VMM is quick, and of a step that failed no end is told.
        killed = {"kill before": [-9], "kill after": [-9, 0]}.get(case.kind, []) if len(done.steps) >= case.step else []
        right = done.returncode in (killed or _CODES)
        wrong = [] if right else [f"it ended with {done.returncode}: {done.stderr}"]
        wrong += [f"a traceback: {done.stderr}"] if "Traceback" in done.stderr else []
        wrong += [f"at once: {one}" for one in self.host.report().violations]
        again = self.v(*case.operation.words)
        states = self.states()
        if not case.accepts(states):
            wrong.append(f"after a second try ({again.returncode}: {again.stderr.strip()}) there is {states}")
        # Whatever changes VMs cleans what was left.
        self.v("create", "-t", "plain", "last")
        self.v("delete", "last")
        report = self.host.report()
        wrong += [f"in the end: {one}" for one in [*report.violations, *report.leftovers]]
        wrong += [f"the VM that nobody touched: {now}" for now in [self._look_at_kept()] if now != self._kept]
        self.clear()
        return done.returncode, wrong

    def _vmms(self) -> str:
        """Of the VM web: its name is in the arguments of QEMU."""
        return "'[g]uest=web '"

    def _mend(self) -> None:
        while Path("/proc/self/mounts").read_text().count(f" {self.fs} ") > 1:
            subprocess.run(["umount", "--lazy", self.fs], check=True)
        (self.fs / "filler").unlink(missing_ok=True)
        for pid in self.host.vmms():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def clear(self) -> None:
        self.v("delete", "--force", *self.states(), "--yes")

    def _look_at_kept(self) -> tuple[object, ...]:
        """Its process, its state, and every byte of its files that do not change by themselves."""
        info = json.loads(self.v("info", _KEPT, "--format", "json").stdout)
        folder = Path(info["folder"])
        sums = {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.parent.name in ("disk", "boot")
        }
        return info["state"], info.get("run", {}).get("pid"), (folder / "vm.json").read_text(), sums


_CODES = (0, 3, 4, 5, 6, 8, 130)


@contextmanager
def lab() -> Iterator[Lab]:
    """As root, who may mount."""
    folder = Path(tempfile.mkdtemp(prefix="vf-", dir="/tmp"))
    # The user as whom root's VMMs run must be able to pass.
    folder.chmod(0o711)
    fs = folder / "fs"
    fs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=0711", "tmpfs", fs], check=True)
    made = None
    try:
        image = folder / "image.raw"
        with image.open("wb") as file:
            file.write(b"\x55" * 2**20)
            file.truncate(2**22)
        (folder / "tmp").mkdir(mode=0o1777)
        host = _SmallHost(folder, {"HOME": str(folder), "TMPDIR": str(folder / "tmp")})
        host.configure(_CONFIG.format(image=image))
        made = Lab(host)
        yield made
    finally:
        if made:
            made.end()
        subprocess.run(["umount", "--lazy", fs], check=True)
        shutil.rmtree(folder)
