"""The steps that make a VM's disks. Holes stay holes, and the file system shares blocks where it can."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from virshle.errors import HostError
from virshle.exec import Command
from virshle.exec import run as run_now
from virshle.model.units import format_size
from virshle.plan import Gauge, Step, run

_COPY_TIMEOUT = 6 * 3600.0
_SHARING = ("xfs", "btrfs", "bcachefs")
"""File systems on which a clone is a reflink, from a source on the same one."""
MOUNTS = Path("/proc/self/mountinfo")
_LONG = 2**26
"""Bytes of data from which a copy is worth a progress bar."""


def clone(source: Path, target: Path, *, image: int, size: int) -> list[Step]:
    """`image`: bytes of the source, `size`: bytes of the disk. The umask makes it 0600, whatever the source is."""
    data = _allocated(source)
    gauge = Gauge(f"clone {source.name}", (target,), data) if data >= _LONG else None
    copy = ("cp", "--reflink=auto", "--sparse=always", "--no-preserve=mode,ownership", "--", source, target)
    steps: list[Step] = [run("clone the image", *copy, gauge=gauge, timeout=_COPY_TIMEOUT)]
    if size > image:
        steps.append(run("grow the disk", "truncate", "-s", str(size), "--", target))
    return steps


def blank(target: Path, size: int) -> list[Step]:
    return [run("make an empty disk", "truncate", "-s", str(size), "--", target)]


def _allocated(path: Path) -> int:
    """Bytes of data in it, holes left out; 0 where a dry run plans with what is not there yet."""
    return path.stat().st_blocks * 512 if path.exists() else 0


def need_space(folder: Path, sources: Iterable[Path], copies: int) -> None:
    """Raises HostError when that many copies of the sources' data do not fit beside each other in `folder`.

    Where the file system shares blocks, copies need none. A little must be left over, for logs and vm.json.
    """
    needed = 0
    here = _there(folder)
    sharing = shares_blocks(file_system(here))
    for source in sources:
        if not sharing or source.stat().st_dev != here.stat().st_dev:
            needed += copies * _allocated(source)
    need_bytes(folder, needed)


def _there(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return folder if folder.exists() else _there(folder.parent)


def need_bytes(folder: Path, needed: int) -> None:
    """Raises HostError where they do not fit into `folder`, with a little left over."""
    needed += 2**24
    status = os.statvfs(_there(folder))
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise HostError(
            f"not enough space in {folder}: {format_size(needed)} are needed, {format_size(free)} are free",
            hint="free some, create fewer, or move the state by VIRSHLE_STATE_DIR",
        )


def file_system(folder: Path) -> str:
    """Its type, as the kernel has it of the mount; where that is not found, as `stat -f` says it, to which ext2, ext3
    and ext4 are the same (coreutils: src/stat.c, human_fstype, S_MAGIC_EXT2)."""
    kind = run_now(Command(("stat", "--file-system", "--format=%T", "--", str(folder)))).stdout.strip()
    return (_mounted(folder.stat().st_dev) or kind) if kind == "ext2/ext3" else kind


def _mounted(device: int) -> str:
    """The type of what is mounted from that device (proc(5), /proc/pid/mountinfo); empty where nothing is."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError, UnicodeDecodeError):
        for line in MOUNTS.read_text().splitlines():
            before, _, after = line.partition(" - ")
            if before.split()[2:3] == [wanted]:
                return after.partition(" ")[0]
    return ""


def shares_blocks(kind: str) -> bool:
    """Whether a clone costs no space on a file system of that type."""
    return kind in _SHARING
