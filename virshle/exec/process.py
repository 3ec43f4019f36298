"""Launches a process that outlives virshle, records it, and checks if it is alive.

The process has a record: a file on which the process holds an flock as long as it lives. If the lock cannot be taken,
the process runs. This does not depend on virshle, on sockets or on pids. The file has one line, `PID BOOT TOKEN`, which
is needed to send a signal to the process: BOOT is /proc/sys/kernel/random/boot_id, and each launch has its own TOKEN.
The process can write anything into its record. So virshle trusts the pid only if the process with that pid has the
record open as descriptor 9.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from virshle.exec.run import Command
from virshle.fs import explain

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FD = 9
# `cd /`: a file system cannot be unmounted while it has the current folder of a process, and a VMM lives long.
_LAUNCHER = 'cd / || exit; setsid "$@" run </dev/null >/dev/null & exec "$@" began $!'
_KILL = (
    'read -r pid boot token <"$1" && [ "$token" = "$2" ] && [ "/proc/$pid/fd/9" -ef "$1" ] && kill -KILL "$pid" && '
    'flock --shared --timeout 10 "$1" true'
)
_CUT = (
    'kill -TERM "$1" 2>/dev/null; flock --shared --timeout 5 "$2" true || kill -KILL "$1"; '
    'flock --shared --timeout 10 "$2" true'
)


BEGIN_SECONDS = 300
"""The time limit for the beginning of a program. It takes more than a minute if thirty guests boot on one processor."""


def launch(script: Path, prefix: Sequence[str] = ()) -> Command:
    """Runs a VM's own script (see vmm.sh.j2) in its own session. After the command succeeds, the program runs and holds
    its record. If it runs already, the launch fails and changes nothing. `prefix`: the words of a command that runs
    other commands, for example `setpriv`."""
    # `sh` is named, because the script's file system may be mounted noexec (mount(8)).
    return Command(("sh", "-c", _LAUNCHER, "sh", *prefix, "sh", str(script)), timeout=BEGIN_SECONDS, detached=True)


def kill_launched(record: Path, token: str) -> Command:
    """Kills the process of the launch with that token, and no other. Returns when the process is gone."""
    return Command(("sh", "-c", _KILL, "sh", str(record), token), ok=(0, 1))


def cut_power(pid: int, record: Path) -> Command:
    """Ends a VMM. At SIGTERM, a VMM writes its data to the disks (cloud-hypervisor and QEMU both power the guest off
    hard). If it has not ended after 5 seconds, it gets SIGKILL. Returns when the VMM is gone."""
    return Command(("sh", "-c", _CUT, "sh", str(pid), str(record)), timeout=30)


def gone_shell(record: Path) -> str:
    """A shell test: no process holds the record."""
    return f"flock --shared --nonblock {quote(str(record))} true"


@dataclass(frozen=True)
class Process:
    """A process that runs. `pid` is None if the record is damaged, or does not name the process that holds it."""

    pid: int | None


_NO_RECORD = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV)
"""The errors of open(2) for a record that does not exist or is not a file."""


def running(record: Path) -> Process | None:
    """The process that holds the record, if there is one. Raises HostError if that cannot be known: a caller that
    believes that a VM does not run may start or delete it."""
    try:
        handle = os.open(record, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _NO_RECORD:
            return None
        raise explain(error, f"cannot find out if a VM runs: {record}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return Process(_holder(handle))
    finally:
        os.close(handle)


def _holder(handle: int) -> int | None:
    with suppress(OSError):
        written = _parse(os.pread(handle, 256, 0))
        if written and os.path.samestat(Path(f"/proc/{written[0]}/fd/{_FD}").stat(), os.fstat(handle)):
            return written[0]
    return None


def held_record(pid: int) -> tuple[Path, os.stat_result] | None:
    """The record that a VMM has open: its present path, even if a folder above it was renamed, and its status.

    The path does not exist if the record was removed, or if the VMM has its own mounts (proc_pid_fd(5)). None if we may
    not look into the process."""
    link = Path(f"/proc/{pid}/fd/{_FD}")
    with suppress(OSError):
        return link.readlink(), link.stat()
    return None


def _parse(text: bytes) -> tuple[int, str, str] | None:
    with suppress(ValueError):
        pid, boot, token = text.decode("ascii").split()
        if pid.isdecimal():
            return int(pid), boot, token
    return None


@dataclass(frozen=True)
class Recorded:
    """What the record says about the last launch. The process may have ended."""

    token: str
    this_boot: bool
    """True if the host has not booted since the launch."""


def recorded(record: Path) -> Recorded | None:
    """None if nothing was launched yet, or if the record is incomplete."""
    try:
        handle = os.open(record, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        written = _parse(os.pread(handle, 256, 0))
    except OSError:
        return None
    finally:
        os.close(handle)
    return Recorded(written[2], written[1] == _BOOT_ID.read_text(encoding="ascii").strip()) if written else None
