"""A process that outlives us: how it is launched, recorded, and known to be alive.

Its record is a file that the process holds an flock on as long as it lives, whatever becomes of us, of our sockets or
of its pid: who cannot take the lock knows that it runs. In the file is one line, `PID START BOOT TOKEN`, for whoever
must signal it: START is field 22 of /proc/PID/stat (clock ticks since boot, proc(5)), BOOT is
/proc/sys/kernel/random/boot_id, TOKEN tells this launch from all others.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from virshle.exec.run import Command

# The lock is taken before anything is touched, and goes on to the program with descriptor 9. Waiting a moment for it
# lets pass who only looks whether it is held.
_LAUNCHER = (
    'record=$1 token=$2 sockets=$3 log=$4; shift 4; exec 9>>"$record"; '
    'flock --timeout 2 9 || { echo "it runs already: $record is locked" >&2; exit 75; }; '
    ': >>"$log" || exit 73; rm -f -- "$sockets"/*.sock "$sockets/ready"; '
    'setsid "$@" </dev/null >>"$log" 2>&1 & '
    "read -r boot </proc/sys/kernel/random/boot_id; "
    'echo "$! $(cut -d" " -f22 /proc/$!/stat) $boot $token" >"$record"'
)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def launch(argv: Sequence[str], *, record: Path, token: str, sockets: Path, log: Path) -> Command:
    """Starts `argv` in a session of its own, with its output appended to `log`. When the command has ended well the
    program is there and recorded, or has died already; of two launches the second fails and touches nothing.

    What the last run left in the folder `sockets` is removed under the lock.
    """
    return Command(
        ("sh", "-c", _LAUNCHER, "sh", str(record), token, str(sockets), str(log), *argv),
        detached=True,
    )


def kill_launched(record: Path, token: str) -> Command:
    """Kills what that launch started, and nothing that another did."""
    script = 'read -r pid start boot token <"$1" && [ "$token" = "$2" ] && kill -KILL "$pid"'
    return Command(("sh", "-c", script, "sh", str(record), token), ok=(0, 1))


def kill(pid: int) -> Command:
    return Command(("sh", "-c", 'kill -KILL "$1"', "sh", str(pid)), ok=(0, 1))


def gone_shell(record: Path) -> str:
    """A shell test: nothing holds the record."""
    return f"flock --shared --nonblock {quote(str(record))} true"


@dataclass(frozen=True)
class Process:
    """It runs. `pid` is known where the record is whole and names the process it was written for."""

    pid: int | None


def running(record: Path) -> Process | None:
    """The process that holds the record, if there is one."""
    try:
        handle = os.open(record, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return Process(_recorded(os.read(handle, 256)))
    finally:
        os.close(handle)


def _recorded(text: bytes) -> int | None:
    with suppress(ValueError, OSError, IndexError):
        pid, start, boot, _ = text.decode("ascii").split()
        stat = Path(f"/proc/{int(pid)}/stat").read_text(encoding="utf-8", errors="replace")
        # The second field is the program's name in parentheses and may hold anything.
        began = stat.rpartition(")")[2].split()[19]
        if (began, boot) == (start, _BOOT_ID.read_text(encoding="ascii").strip()):
            return int(pid)
    return None
