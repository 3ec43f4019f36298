"""The file system of a state: full, read-only, broken, or as it is found after a power cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

_MAPPER = Path("/dev/mapper/control")
_SECONDS = 60.0


class Disk:
    """An ext4 of its own on a loop device, whose blocks are in memory: what was not written to it when its power is cut
    is lost, though the host goes on. As root."""

    def __init__(self, folder: Path, size: int) -> None:
        """`folder`: where it is mounted; `size`: bytes."""
        self.folder = folder
        self._store = Path(tempfile.mkdtemp(prefix="vf-", dir="/dev/shm"))
        self._blocks, self._cut = self._store / "blocks", self._store / "cut"
        with self._blocks.open("wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-m", "0", "-E", "root_owner=0:0", self._blocks)
        self._loop = _run("losetup", "--find", "--show", self._blocks)
        self._device, self._sectors = self._loop, size // 512
        if can_break():
            name = self._store.name
            _run("dmsetup", "create", name, "--table", self._table("linear"))
            self._device = f"/dev/mapper/{name}"
        folder.mkdir()
        self._mount()

    def end(self) -> None:
        _run("umount", "--lazy", self.folder)
        if self._device != self._loop:
            _run("dmsetup", "remove", "--retry", "--deferred", self._store.name)
        _run("losetup", "--detach", self._loop)
        shutil.rmtree(self._store)

    @property
    def read_only(self) -> str:
        """A line of shell. For who opens anything from now on; what a VMM has open for writing it keeps."""
        return f"mount --bind {self.folder} {self.folder} && mount -o remount,bind,ro {self.folder}"

    @property
    def cut(self) -> str:
        """A line of shell: what is on the disk now is what `cut_power` finds."""
        return f"cp --sparse=always {self._blocks} {self._cut}"

    @property
    def broken(self) -> str:
        """A line of shell: no block can be read or written."""
        name = self._store.name
        return f"dmsetup suspend --nolockfs --noflush {name}; {self._load('error')}; dmsetup resume {name}"

    def mend(self) -> None:
        """Writable, and not full."""
        while Path("/proc/self/mounts").read_text().count(f" {self.folder} ") > 1:
            _run("umount", "--lazy", self.folder)
        (self.folder / "filler").unlink(missing_ok=True)

    def flush(self) -> None:
        _run("sync", "--file-system", self.folder)

    def cut_power(self) -> None:
        """As it was on the disk at `cut`. Nobody may use it any more."""
        self._unmount()
        with self._cut.open("rb") as cut, self._blocks.open("r+b") as blocks:
            shutil.copyfileobj(cut, blocks)
        self._cut.unlink()
        self._mount()

    def repair(self) -> None:
        """After it was broken, as its administrator would. Nobody may use it any more."""
        self._unmount()
        name = self._store.name
        _run("sh", "-c", f"dmsetup suspend --nolockfs --noflush {name}; {self._load('linear')}; dmsetup resume {name}")
        # 1: it mended something.
        done = subprocess.run(["e2fsck", "-p", self._device], capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stdout
        self._mount()

    def _mount(self) -> None:
        _run("mount", self._device, self.folder)
        self.folder.chmod(0o711)

    def _unmount(self) -> None:
        """Who was killed a moment ago may still have files open."""
        end = time.monotonic() + _SECONDS
        while (done := subprocess.run(["umount", self.folder], capture_output=True, text=True)).returncode != 0:
            assert time.monotonic() < end, done.stderr
            time.sleep(0.05)

    def _table(self, target: str) -> str:
        return f"0 {self._sectors} {target}" + (f" {self._loop} 0" if target == "linear" else "")

    def _load(self, target: str) -> str:
        return f"dmsetup load {self._store.name} --table '{self._table(target)}'"


def can_break() -> bool:
    """Whether this kernel has a device mapper."""
    return _MAPPER.exists() and os.access(_MAPPER, os.W_OK) and shutil.which("dmsetup") is not None


def _run(*words: str | Path) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout.strip()
