"""Reads the processes of this host from /proc, whoever started them (proc_pid_cmdline(5), proc_pid_stat(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Listed:
    pid: int
    argv: tuple[str, ...]


def processes() -> Iterator[Listed]:
    """All processes with arguments. Kernel threads and zombies have none."""
    for folder in _PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        if argv := argv_of(int(folder.name)):
            yield Listed(int(folder.name), argv)


def argv_of(pid: int) -> tuple[str, ...]:
    """The arguments of the process. Empty if the process has ended or hides them."""
    with suppress(OSError):
        words = (_PROC / str(pid) / "cmdline").read_bytes().removesuffix(b"\0").split(b"\0")
        return () if words == [b""] else tuple(map(os.fsdecode, words))
    return ()


def parent_of(pid: int) -> int | None:
    """The pid of the parent. None if the process has ended."""
    with suppress(OSError):
        # The second field is the name in parentheses, and may have any characters.
        return int((_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    return None


def unit_of(pid: int) -> str | None:
    """The systemd service of the process (cgroups(7), "/proc files": a line for each hierarchy; one of them belongs to
    systemd)."""
    with suppress(OSError):
        for line in (_PROC / str(pid) / "cgroup").read_text(errors="replace").splitlines():
            if line.endswith(".service"):
                return line.rpartition("/")[2].removesuffix(".service")
    return None


def open_still(pid: int, path: Path) -> Path | None:
    """The descriptor of a removed file that the process still has open (proc_pid_fd(5): such a link ends with
    "(deleted)")."""
    with suppress(OSError):
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                if str(descriptor.readlink()) == f"{path} (deleted)":
                    return descriptor
    return None


def has_open(pid: int, folder: Path) -> bool:
    """True if the process has exactly that folder open. False if we may not look into the process."""
    with suppress(OSError):
        status = folder.stat()
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(descriptor.stat(), status):
                    return True
    return False
