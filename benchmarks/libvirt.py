"""A libvirtd of our own: no systemd, nothing of the machine's own libvirt is read or touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import NotMeasured
from benchmarks.place import folder

_NOBODY = 65534
_SECONDS = 60
"""Within which it must answer."""
_DOMAIN = """<domain type='qemu'>
  <name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>
    <interface type='user'><model type='virtio'/></interface>
  </devices>
</domain>
"""


@dataclass(frozen=True)
class Libvirt:
    top: Path

    @property
    def socket(self) -> Path:
        return self.top / "run/libvirt/libvirt-sock"

    def virsh(self, *words: str) -> list[str]:
        return ["virsh", "--connect", f"qemu+unix:///session?socket={self.socket}", *words]

    def define(self, names: Sequence[str], disk: Path) -> None:
        for name in names:
            (self.top / f"{name}.xml").write_text(_DOMAIN.format(name=name, disk=disk))
        script = "".join(f"define {self.top / name}.xml\n" for name in names)
        subprocess.run(self.virsh(), input=script, text=True, check=True, capture_output=True)


@contextmanager
def libvirtd() -> Iterator[Libvirt]:
    """An ordinary user's one, which keeps everything in the XDG folders; root becomes nobody for it."""
    program = shutil.which("libvirtd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or shutil.which("virsh") is None:
        raise NotMeasured("libvirtd or virsh is not on this machine")
    with folder() as top:
        top.chmod(0o755)
        folders = {f"XDG_{name}": top / name for name in ("CONFIG_HOME", "CACHE_HOME", "DATA_HOME", "STATE_HOME")}
        folders |= {"HOME": top / "home", "XDG_RUNTIME_DIR": top / "run"}
        for path in folders.values():
            path.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(path, _NOBODY, _NOBODY)
        user = _NOBODY if os.geteuid() == 0 else None
        env = {"PATH": os.environ["PATH"], **{name: str(path) for name, path in folders.items()}}
        with (top / "log").open("wb") as log:
            daemon = subprocess.Popen(
                [program],
                env=env,
                cwd="/",
                stdout=log,
                stderr=log,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        try:
            libvirt = Libvirt(top)
            _wait(libvirt, daemon)
            yield libvirt
        finally:
            daemon.terminate()
            daemon.wait()


def _wait(libvirt: Libvirt, daemon: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _SECONDS
    while subprocess.run(libvirt.virsh("list"), capture_output=True, check=False).returncode:
        if daemon.poll() is not None or time.monotonic() > deadline:
            log = (libvirt.top / "log").read_text(errors="replace")
            raise NotMeasured(f"libvirtd does not answer:\n{log[-2000:]}")
        time.sleep(0.1)
