"""The steps that make a VM's disks. Holes stay holes, and the file system shares blocks if it can."""

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
"""File systems on which a clone is a reflink, if the source is on the same file system."""
MOUNTS = Path("/proc/self/mountinfo")
_LONG = 2**26
"""A copy of this many bytes of data or more gets a progress bar."""


def clone(source: Path, target: Path, *, image: int, size: int) -> list[Step]:
    """`image`: bytes of the source. `size`: bytes of the disk. Because of our umask the disk has the mode 0600,
    whatever mode the source has."""
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
    """Bytes of data in the file, without holes. 0 if it is missing: a dry run plans with files that do not exist
    yet."""
    return path.stat().st_blocks * 512 if path.exists() else 0


def need_space(folder: Path, sources: Iterable[Path], copies: int) -> None:
    """Raises HostError if that many copies of the data of the sources do not fit into `folder`.

    If the file system shares blocks, copies need no space. A little space must stay free for logs and vm.json.
    """
    needed = 0
    here = _there(folder)
    sharing = shares_blocks(file_system(here))
    for source in sources:
        if not sharing or source.stat().st_dev != here.stat().st_dev:
            needed += copies * _allocated(source)
    need_bytes(folder, needed)


def _there(folder: Path) -> Path:
    """The folder, or the nearest folder above it that exists."""
    return folder if folder.exists() else _there(folder.parent)


def need_bytes(folder: Path, needed: int) -> None:
    """Raises HostError if that many bytes do not fit into `folder`, with a little space left."""
    needed += 2**24
    status = os.statvfs(_there(folder))
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise HostError(
            f"not enough space in {folder}: {format_size(needed)} are needed, {format_size(free)} are free",
            hint="free some space, create fewer VMs, or use another folder (VIRSHLE_STATE_DIR)",
        )


def file_system(folder: Path) -> str:
    """The type of the folder's file system, as `stat -f` says it. `stat` cannot tell ext2, ext3 and ext4 apart
    (coreutils: src/stat.c, human_fstype, S_MAGIC_EXT2), so for these the type of the mount is used if it is found."""
    kind = run_now(Command(("stat", "--file-system", "--format=%T", "--", str(folder)))).stdout.strip()
    return (_mounted(folder.stat().st_dev) or kind) if kind == "ext2/ext3" else kind


def _mounted(device: int) -> str:
    """The type of the file system that is mounted from that device (proc(5), /proc/pid/mountinfo). Empty if none is."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError, UnicodeDecodeError):
        for line in MOUNTS.read_text().splitlines():
            before, _, after = line.partition(" - ")
            if before.split()[2:3] == [wanted]:
                return after.partition(" ")[0]
    return ""


def shares_blocks(kind: str) -> bool:
    """True if a clone needs no space on a file system of that type."""
    return kind in _SHARING
