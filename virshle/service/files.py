"""Checks that a VM has the files that it needs. This is fast, as `v ls` calls it for every VM that does not run."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


def odd(folder: Path, files: Iterable[str]) -> Iterator[Path]:
    """Files that are missing, or are not regular files in the VM's own folder."""
    for file, size in _sizes(folder, files):
        if size is None:
            yield folder / file


def short(folder: Path, disks: Iterable[tuple[str, int]]) -> Iterator[tuple[Path, int, int]]:
    """Disks whose end is missing: the file, its bytes, and the bytes in the definition. A larger disk was grown by
    hand, which is allowed. `odd` reports missing disks."""
    wanted = dict(disks)
    for file, size in _sizes(folder, wanted):
        if size is not None and size < wanted[file]:
            yield folder / file, size, wanted[file]


def lack(folder: Path, disks: Iterable[tuple[str, int]], others: Iterable[str] = ()) -> str:
    """Why a VM cannot start; empty if it has all files."""
    wanted = {**dict(disks), **dict.fromkeys(others, 0)}
    try:
        return _lack(folder, wanted)
    except PermissionError as error:
        return closed(error)


def missing(path: Path) -> str:
    return f"{path} is missing, or is not a regular file"


def cut_short(path: Path, size: int, wanted: int) -> str:
    return f"{path} was cut short: it has {size} bytes, but the disk has {wanted}"


def closed(error: PermissionError) -> str:
    return f"v may not look at {error.filename}: {error.strerror}"


def _lack(folder: Path, wanted: Mapping[str, int]) -> str:
    for file, size in _sizes(folder, wanted):
        if size is None:
            return missing(folder / file)
        if size < wanted[file]:
            return cut_short(folder / file, size, wanted[file])
    return ""


def _sizes(folder: Path, files: Iterable[str]) -> Iterator[tuple[str, int | None]]:
    """The size of each file; None if it is missing, or is not a regular file in that folder. Raises PermissionError if
    we may not look: a disk that is only hidden must not be called missing."""
    home, inside = f"{folder}/", dict[str, bool]()
    for file in files:
        parent = file.rpartition("/")[0]
        if parent not in inside:
            inside[parent] = _is_inside(home, parent)
        try:
            status = os.lstat(home + file)
        except PermissionError:
            raise
        except OSError:
            yield file, None
            continue
        yield file, status.st_size if inside[parent] and stat.S_ISREG(status.st_mode) else None


def _is_inside(home: str, parent: str) -> bool:
    path = home
    for part in parent.split("/"):
        path = f"{path}{part}/"
        try:
            if not stat.S_ISDIR(os.lstat(path[:-1]).st_mode):
                return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(home))
        except OSError:
            return False
    return True
