"""A process that outlives us: how it is launched, recorded, and known to be alive.

Its record is a file that the process holds an flock on as long as it lives, whatever becomes of us, of our sockets or
of its pid: who cannot take the lock knows that it runs. In the file is one line, `PID BOOT TOKEN`, for whoever must
signal it: BOOT is /proc/sys/kernel/random/boot_id, TOKEN tells this launch from all others. The process may write into
its record what it likes, so a pid is only believed of a process that has the record open, as descriptor 9.
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
# What is in the current folder of a VMM could not be unmounted as long as that lives.
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
"""How long a program may take to begin: more than a minute where thirty guests boot on one processor."""


def launch(script: Path, prefix: Sequence[str] = ()) -> Command:
    """Runs a VM's own script (see vmm.sh.j2) in a session of its own. When the command has ended well its program is
    there and holds its record; of two launches the second fails and touches nothing. `prefix`: of a command that
    runs others, `setpriv` say."""
    # By name of its shell, as its file system may be mounted noexec (mount(8)).
    return Command(("sh", "-c", _LAUNCHER, "sh", *prefix, "sh", str(script)), timeout=BEGIN_SECONDS, detached=True)


def kill_launched(record: Path, token: str) -> Command:
    """Kills what that launch started, and nothing that another did. Returns when it is gone."""
    return Command(("sh", "-c", _KILL, "sh", str(record), token), ok=(0, 1))


def cut_power(pid: int, record: Path) -> Command:
    """Ends a VMM: SIGTERM, by which it writes out what it holds (cloud-hypervisor and QEMU both power off hard at it),
    and SIGKILL where it does not listen within 5 seconds. Returns when it is gone."""
    return Command(("sh", "-c", _CUT, "sh", str(pid), str(record)), timeout=30)


def gone_shell(record: Path) -> str:
    """A shell test: nothing holds the record."""
    return f"flock --shared --nonblock {quote(str(record))} true"


@dataclass(frozen=True)
class Process:
    """It runs. `pid` is known where the record is whole and names the process that holds it."""

    pid: int | None


_NO_RECORD = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV)
"""Why a file cannot be opened that is not there, or is no file."""


def running(record: Path) -> Process | None:
    """The process that holds the record, if there is one. Raises HostError where that cannot be known: whoever is told
    that a VM does not run may start or delete it."""
    try:
        handle = os.open(record, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _NO_RECORD:
            return None
        raise explain(error, f"whether a VM runs cannot be known: {record}: {error.strerror}") from error
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
    """The record that a VMM has open: the path at which it is now, whatever was renamed above it, and what it is. The
    path leads nowhere where the record was removed, or the VMM has mounts of its own (proc_pid_fd(5)). None of a
    process that is not ours to look into."""
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
    """What the record says of the last launch, whether that lives or not."""

    token: str
    this_boot: bool
    """Whether the host has been up since."""


def recorded(record: Path) -> Recorded | None:
    """None where nothing was launched yet, or the record is torn."""
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
