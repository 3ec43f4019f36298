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
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults.disk import Disk
from tests.faults.operations import BUILT, IMPORTED, Case, Operation, States
from tests.host.host import Host
from tests.warm.client import NO_FAULT, Done, Fault, Warm
from virshle.vmm.systemd import systemd_runs

_SECONDS = 300.0
"""A generous bound for one command."""
_KEPT = "kept"
_TINY = Path("/var/lib/virshle/image/tiny")
_CONFIG = """
[[template.vm]]
name = "plain"
vram = "96MiB"
hypervisor = "{hypervisor}"
[[template.vm.disk]]
name = "os"
{image}
[[image]]
name = "made"
file = "{file}"
"""
_NIX = """derivation {
  name = "made";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [ "-c" "printf %512s > $out" ];
}
"""


class _SmallHost(Host):
    """Its state is on a file system of its own."""

    @property
    def state(self) -> Path:
        return self.folder / "fs/s"


class Lab:
    def __init__(self, host: Host, disk: Disk) -> None:
        self.host, self.disk = host, disk
        env = host.environment() | {"PYTHONPATH": str(Path(__file__).parents[2])}
        server = [sys.executable, "-m", "tests.warm"]
        pipe = subprocess.PIPE
        self._warm = Warm(subprocess.Popen(server, cwd=host.folder, env=env, stdin=pipe, stdout=pipe))
        self.v("create", "-t", "plain", _KEPT)
        self._start_kept()

    def _start_kept(self) -> None:
        self.v("start", _KEPT)
        self.v("pause", _KEPT)
        # Its seed disk is made at each start, and so may be lost.
        self.disk.flush()
        self._kept = self._look_at_kept()

    def end(self) -> None:
        self._warm.end()
        self._kill_vmms()

    def v(self, *words: str, fault: Fault = NO_FAULT) -> Done:
        return self._warm.ask(words, _SECONDS, fault=fault)

    def states(self) -> States:
        """Of all VMs but the one that nobody may harm, and of the images."""
        rows = json.loads(self.v("ls", "--format", "json").stdout)
        images = json.loads(self.v("image", "ls", "--format", "json").stdout)
        there = {f"image {row['name']}": "there" for row in images if row["built"]}
        vms = {row["name"]: row["state"] for row in rows if row["name"] != _KEPT}
        return vms | {name: state for name, state in there.items() if name in (BUILT, IMPORTED)}

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
            self._do(*words)

    def _do(self, *words: str) -> None:
        done = self.v(*words)
        assert done.returncode == 0, f"{words}: {done.stderr}"

    def run(self, case: Case) -> tuple[int | None, list[str]]:
        """The exit code of the command that the fault was made to, none where there was no occasion for it; and what
        was violated."""
        self._bring(case.operation)
        before = self.states()
        kept = self._kept.pid
        assert kept
        done = self.v(*case.operation.words, fault=case.fault(self.disk, kept))
        finished = case.kind == "power cut" and done.returncode == 0
        if finished:
            subprocess.run(["sh", "-c", self.disk.cut], check=True)
        if case.ends_all:
            self._host_goes_down(case)
        self._mend()
        # A stop has other steps where the VMM is quick, and of a step that failed no end is told.
        killed = {"kill before": [-9], "power cut": [-9], "kill after": [-9, 0]}.get(case.kind, [])
        right = done.returncode in (killed if killed and len(done.steps) >= case.step else case.codes)
        wrong = [] if right else [f"it ended with {done.returncode}: {done.stderr}"]
        wrong += [f"a traceback: {done.stderr}"] if "Traceback" in done.stderr else []
        wrong += [f"at once: {one}" for one in self.host.report().violations]
        end = case.end(before, self.states(), done.returncode, done.steps)
        if not case.leaves(end):
            wrong.append(f"it ended with {end.code}, and then there was {end.after}")
        again = self.v(*case.operation.words)
        states = self.states()
        if not case.accepts(end, states, again.returncode) or "Traceback" in again.stderr:
            wrong.append(f"after a second try ({again.returncode}: {again.stderr.strip()}) there is {states}")
        # Whatever changes VMs cleans what was left of VMs.
        self._do("create", "-t", "plain", "last")
        self._do("delete", "last")
        if case.operation.name.startswith("image") or case.ends_all:
            self._do("image", "gc")
        report = self.host.report()
        wrong += [f"in the end: {one}" for one in [*report.violations, *report.leftovers]]
        now = self._look_at_kept()
        if now != (replace(self._kept, state=now.state, pid=None) if case.ends_all else self._kept):
            wrong.append(f"the VM that nobody touched was {self._kept} and is {now}")
        self.clear()
        if case.ends_all:
            self._start_kept()
        return done.returncode if done.made or finished else None, wrong

    def _host_goes_down(self, case: Case) -> None:
        """And comes up again: nothing runs, and the runtime folder is gone."""
        self._kill_vmms()
        if case.kind == "power cut":
            self.disk.cut_power()
        else:
            self.disk.repair()
        shutil.rmtree(self.host.run)
        if systemd_runs():
            subprocess.run(["systemctl", "reset-failed", "virshle-vm-*"], check=True)

    def _kill_vmms(self) -> None:
        while pids := self.host.vmms():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def _mend(self) -> None:
        self.disk.mend()
        for pid in self.host.vmms():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def clear(self) -> None:
        there = self.states()
        if there.pop(BUILT, None):
            self._do("image", "gc")
        if there.pop(IMPORTED, None):
            self._do("image", "delete", "other")
        if there:
            self._do("delete", "--force", *there, "--yes")

    def _look_at_kept(self) -> _Kept:
        info = json.loads(self.v("info", _KEPT, "--format", "json").stdout)[0]
        folder = Path(info["folder"])
        sums = {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.parent.name in ("disk", "boot")
        }
        pid = info.get("run", {}).get("pid") if info["state"] in ("running", "paused") else None
        return _Kept(info["state"], pid, (folder / "vm.json").read_text(), sums)


@dataclass(frozen=True)
class _Kept:
    """Its state, its process, and every byte of its files that do not change by themselves."""

    state: str
    pid: int | None
    definition: str
    sums: dict[str, str]


@contextmanager
def lab(hypervisor: str = "qemu") -> Iterator[Lab]:
    """As root, who may mount."""
    # Units of systemd have a /tmp for themselves.
    folder = Path(tempfile.mkdtemp(prefix="vf-", dir="/var/lib" if systemd_runs() else "/tmp"))
    # The user as whom root's VMMs run must be able to pass.
    folder.chmod(0o711)
    with ExitStack() as after:
        after.callback(shutil.rmtree, folder)
        small = hypervisor == "qemu"
        disk = Disk(folder / "fs", (64 if small else 512) * 2**20)
        after.callback(disk.end)
        (folder / "tmp").mkdir(mode=0o1777)
        host = _SmallHost(folder, {"HOME": str(folder), "TMPDIR": str(folder / "tmp")})
        host.env["NIX_CONFIG"] = "sandbox = false\nsubstituters ="
        (folder / "made.nix").write_text(_NIX)
        (folder / "other.raw").write_bytes(bytes(510) + b"\x55\xaa" + bytes(2**20))
        image = _file(folder) if small else _tiny(host)
        host.configure(_CONFIG.format(hypervisor=hypervisor, image=image, file=folder / "made.nix"))
        made = Lab(host, disk)
        after.callback(made.end)
        yield made


def _file(folder: Path) -> str:
    """An image in which nothing boots."""
    image = folder / "image.raw"
    with image.open("wb") as file:
        file.write(b"\x55" * 2**20)
        file.truncate(2**22)
    return f'path = "{image}"'


def _tiny(host: Host) -> str:
    """cloud-hypervisor needs a kernel, and so the built-in image, which is there in the box."""
    folder = host.state / "image/tiny"
    folder.mkdir(parents=True)
    for name in ("result", "image.json"):
        shutil.copy(_TINY / name, folder / name, follow_symlinks=False)
    return 'image = "tiny"'
