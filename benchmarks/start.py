"""From nothing to a guest that speaks, beside the bare command line of its VMM; and what waits for it, and stays.

On cloud-hypervisor where KVM works: on a real host, or in the box (`./scripts/bench --box`). On QEMU anywhere.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import NotMeasured, Options, Row, at_most_times, medians, ms, output
from benchmarks.place import V, environment
from virshle.model.arch import host_arch
from virshle.vmm.kvm import kvm_problem

_PROGRAMS = {"cloud-hypervisor": "cloud-hypervisor", "qemu": "qemu-system-x86_64"}
_BUILT = Path("/var/lib/virshle/image/tiny")
_SECONDS = 300
_LOOK = 0.02
_WAIT_GOAL = 0.1
"""Seconds."""
_SIZE = 2**30
_CONFIG = """
[[template.vm]]
name = "alone"
vcpu = 1
vram = "256MiB"
hypervisor = "{vmm}"
[[template.vm.disk]]
name = "os"
image = "tiny"
size = "1GiB"
"""


def run(options: Options) -> list[Row]:
    if os.geteuid() != 0:
        raise NotMeasured("it takes root")
    there = [vmm for vmm, program in _PROGRAMS.items() if shutil.which(program)]
    vmms = [vmm for vmm in there if vmm == "qemu" or not kvm_problem(host_arch())]
    rows: list[Row] = []
    for vmm in vmms:
        with _place(vmm) as place:
            rows += _rows(place, max(options.rounds // 3, 3))
    return rows


@dataclass(frozen=True)
class _Place:
    top: Path
    env: dict[str, str]
    vmm: str

    def v(self, *words: str) -> str:
        return output([str(V), *words], self.env)

    @property
    def vm(self) -> Path:
        return self.top / "s/name/web"


@contextmanager
def _place(vmm: str) -> Iterator[_Place]:
    """Not in /tmp, which units have for themselves."""
    with tempfile.TemporaryDirectory(prefix="vb-", dir="/var/lib") as name:
        top = Path(name)
        # The user of root's VMMs must be able to pass.
        top.chmod(0o711)
        place = _Place(top, environment(top), vmm)
        (top / "config.toml").write_text(_CONFIG.format(vmm=vmm))
        if _BUILT.is_dir():
            shutil.copytree(_BUILT, top / "s/image/tiny", symlinks=True)
        else:
            place.v("image", "build", "tiny")
        yield place


def _rows(place: _Place, rounds: int) -> list[Row]:
    waits: list[float] = []

    def ours() -> float:
        began = time.perf_counter()
        command, quiet = [str(V), "create", "-t", "alone", "web", "--start"], subprocess.DEVNULL
        with subprocess.Popen(command, env=place.env, stdout=quiet, stderr=quiet) as process:
            took = _until_it_speaks(place.vm / "log/console.log", began)
        assert process.returncode == 0
        if not waits:
            rows.append(_memory(place))
        place.v("stop", "--force", "--timeout", "0", "web")
        waits.append(_wait(place))
        place.v("delete", "--force", "web")
        return took

    rows: list[Row] = []
    took, peer = medians(rounds, ours, lambda: _bare(place))
    what = f"v create --start to the guest's first words, {place.vmm}"
    wait = statistics.median(waits)
    goal = f"<= {_WAIT_GOAL * 1000:g} ms"
    return [
        at_most_times(what, took, f"cp, {_PROGRAMS[place.vmm]} ...", peer, 1.1, 0.1),
        Row(f"READY to the end of --wait, {place.vmm}", ms(wait), "", "", ms(wait), goal, wait <= _WAIT_GOAL),
        *rows,
    ]


def _until_it_speaks(log: Path, began: float) -> float:
    """Raises NotMeasured where it never does."""
    while time.perf_counter() - began < _SECONDS:
        try:
            if log.stat().st_size:
                return time.perf_counter() - began
        except FileNotFoundError:
            pass
        time.sleep(_LOOK)
    raise NotMeasured(f"the guest said nothing within {_SECONDS} s")


def _wait(place: _Place) -> float:
    """Seconds from the guest's word, when the file of what it said was written, to the end of the command."""
    place.v("start", "--wait", "web")
    ended = time.time()
    folder = json.loads(place.v("info", "web", "--format", "json"))[0]["run"]["folder"]
    return ended - (Path(folder) / "ready").stat().st_mtime


def _memory(place: _Place) -> Row:
    """Of what runs for a VM beside its VMM, which may be several processes: whatever names its folder, and any `v`."""
    pid = json.loads(place.v("info", "web", "--format", "json"))[0]["run"]["pid"]
    pids = {int(one) for one in output(["pgrep", "-f", f"{place.vm.resolve()}|{V}( |$)"], place.env).split()}
    assert pid in pids
    program = Path(f"/proc/{pid}/exe").readlink()
    others = [one for one in pids if Path(f"/proc/{one}/exe").readlink() != program]
    beside, own = sum(map(_resident, others)), _resident(pid)
    what = f"memory beside the VMM, each VM, {place.vmm}"
    return Row(what, _mib(beside), "its VMM", _mib(own), f"{len(others)} processes", "none", not others)


def _resident(pid: int) -> int:
    """Bytes."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _bare(place: _Place) -> float:
    """What a person would type who wants the same: a copy of the disk, grown, the disk that tells the guest its name,
    and the VMM with the same devices."""
    image, disk, seed, log = (place.top / name for name in ("s/image/tiny/result", "bare.raw", "bare.seed", "bare.log"))
    texts = ("meta-data", "user-data", "authorized_keys")
    for path in (disk, seed, log, place.top / "bare.vsock"):
        path.unlink(missing_ok=True)
    for name in texts:
        (place.top / name).write_text("local-hostname: web\n" if name == "meta-data" else "")
    began = time.perf_counter()
    commands: list[Sequence[str | Path]] = [
        ("cp", "--reflink=auto", "--sparse=always", "--no-preserve=mode", image / "disk.raw", disk),
        ("truncate", "-s", str(_SIZE), disk),
        ("mkfs.vfat", "-n", "CIDATA", "-C", seed, "1024"),
        ("mcopy", "-oi", seed, *(place.top / name for name in texts), "::"),
    ]
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    vmm = _command(place, image, disk, seed)
    with log.open("wb") as file, subprocess.Popen(vmm, stdin=subprocess.DEVNULL, stdout=file) as process:
        try:
            return _until_it_speaks(log, began)
        finally:
            process.kill()


def _command(place: _Place, image: Path, disk: Path, seed: Path) -> Sequence[str | Path]:
    kernel, initrd, cmdline = image / "kernel", image / "initrd", (image / "cmdline").read_text().strip()
    if place.vmm == "cloud-hypervisor":
        return [
            *("cloud-hypervisor", "--cpus", "boot=1", "--memory", "size=256M"),
            *("--kernel", kernel, "--initramfs", initrd, "--cmdline", cmdline),
            *("--disk", f"path={disk},image_type=raw", f"path={seed},readonly=on,image_type=raw"),
            *("--balloon", "size=0,deflate_on_oom=on,free_page_reporting=on"),
            *("--vsock", f"cid=3,socket={place.top}/bare.vsock", "--serial", "tty", "--console", "pty"),
        ]
    return [
        *("qemu-system-x86_64", "-machine", "q35,accel=" + ("tcg" if kvm_problem(host_arch()) else "kvm")),
        *("-cpu", "max" if kvm_problem(host_arch()) else "host", "-smp", "1", "-m", "256M", "-nodefaults"),
        *("-display", "none", "-kernel", kernel, "-initrd", initrd, "-append", cmdline),
        *("-drive", f"file={disk},format=raw,if=virtio", "-drive", f"file={seed},format=raw,if=virtio,readonly=on"),
        *("-device", "virtio-rng-pci", "-device", "virtio-balloon-pci,deflate-on-oom=on,free-page-reporting=on"),
        *("-serial", "stdio", "-device", "virtio-serial-pci", "-chardev", "null,id=ready"),
        *("-device", "virtserialport,chardev=ready,name=org.virshle.ready.0"),
    ]
