"""The processes of this host, whoever began them, as /proc has them (proc_pid_cmdline(5), proc_pid_stat(5))."""

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
    """Those with arguments: neither the kernel's own nor one that has ended and was not waited for."""
    for folder in _PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        if argv := argv_of(int(folder.name)):
            yield Listed(int(folder.name), argv)


def argv_of(pid: int) -> tuple[str, ...]:
    """Empty where it has ended, or hides it."""
    with suppress(OSError):
        words = (_PROC / str(pid) / "cmdline").read_bytes().removesuffix(b"\0").split(b"\0")
        return () if words == [b""] else tuple(map(os.fsdecode, words))
    return ()


def parent_of(pid: int) -> int | None:
    """None where it has ended."""
    with suppress(OSError):
        # The second field, its name in parentheses, may hold anything.
        return int((_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    return None


def unit_of(pid: int) -> str | None:
    """The service of systemd that it is in (cgroups(7), "/proc files": a line for each hierarchy, of which systemd has
    one)."""
    with suppress(OSError):
        for line in (_PROC / str(pid) / "cgroup").read_text(errors="replace").splitlines():
            if line.endswith(".service"):
                return line.rpartition("/")[2].removesuffix(".service")
    return None


def open_still(pid: int, path: Path) -> Path | None:
    """The descriptor by which it has a file open that was removed (proc_pid_fd(5): its link says so in the end)."""
    with suppress(OSError):
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                if str(descriptor.readlink()) == f"{path} (deleted)":
                    return descriptor
    return None


def has_open(pid: int, folder: Path) -> bool:
    """Whether it has a descriptor of that very folder. Not known, hence not so, of a process that is not ours to look
    into."""
    with suppress(OSError):
        status = folder.stat()
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(descriptor.stat(), status):
                    return True
    return False
