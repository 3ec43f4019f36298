"""A process that outlives us: how it is launched, recorded, and known to be alive.

The record is one line, `PID START BOOT`: START is field 22 of /proc/PID/stat (clock ticks since boot, proc(5)),
BOOT is /proc/sys/kernel/random/boot_id. The process writes it itself before it becomes the program, so there
is no moment at which it runs unrecorded, and no other process can be taken for it when its pid is used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from virshle.exec.run import Command

_LAUNCHER = (
    'record=$1; shift; here=${record%/*}; rm -f -- "$here"/*.sock "$here/ready"; '
    "read -r boot </proc/sys/kernel/random/boot_id; "
    'echo "$$ $(cut -d" " -f22 /proc/$$/stat) $boot" >"$record"; exec "$@"'
)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def launch(argv: Sequence[str], record: Path, log: Path) -> Command:
    """Starts `argv` in a session of its own, recorded in `record`, its output appended to `log`.

    The lock on `record` is held by the program itself as long as it lives: of two launches the second ends
    before it touches anything. What the last run left beside the record is removed under that lock.
    """
    script = ("flock", "--nonblock", "--no-fork", f"{record}.lock", "sh", "-c", _LAUNCHER, "sh", str(record))
    return Command(("setsid", "--fork", *script, *argv), into=log, detached=True)


@dataclass(frozen=True)
class Process:
    pid: int
    start: int
    boot: str

    def alive(self) -> bool:
        """Whether this very process runs; a zombie nobody reaps does not."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
            boot = _BOOT_ID.read_text(encoding="ascii").strip()
        except (FileNotFoundError, ProcessLookupError):
            return False
        # The second field is the program's name in parentheses and may hold anything.
        fields = stat.rpartition(")")[2].split()
        return boot == self.boot and int(fields[19]) == self.start and fields[0] not in "ZX"


def read_record(record: Path) -> Process | None:
    """None where there is none, or where it is not a whole record."""
    with suppress(OSError, ValueError):
        pid, start, boot = record.read_text(encoding="ascii", errors="strict").split()
        return Process(int(pid), int(start), boot)
    return None


def running(record: Path) -> Process | None:
    """The recorded process, if it is alive."""
    process = read_record(record)
    return process if process and process.alive() else None
