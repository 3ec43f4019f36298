"""Converts qcow2 to raw. qemu-img always gets the format: if it guessed, a guest could have written a false header."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from virshle import log
from virshle.errors import ConfigError, HostError
from virshle.exec import Command
from virshle.exec import run as run_now
from virshle.plan import Gauge, Step, run

_TIMEOUT, _LOOK = 6 * 3600.0, 600.0


def converted_size(source: Path) -> int:
    """Bytes of data that the raw image will have, without holes. Raises ConfigError if the source is damaged, and
    HostError."""
    # qemu-img would read a missing end as holes. Leaked clusters (exit code 3) do no harm.
    checked = run_now(Command(("qemu-img", "check", "-f", "qcow2", str(source)), timeout=_LOOK), check=False)
    if checked.code not in (0, 3):
        said = [f"  {log.printable(line)}" for line in (checked.stderr + checked.stdout).splitlines()[:8]]
        raise ConfigError(f"{source} is damaged", details=said, hint="copy it again, and compare its checksum")
    argv = ("qemu-img", "map", "--output", "json", "-f", "qcow2", str(source))
    result = run_now(Command(argv, timeout=_LOOK))
    try:
        return sum(part["length"] for part in json.loads(result.stdout) if part["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise HostError(
            f"qemu-img gave an unexpected answer about {source}", hint=f"run it: {shlex.join(argv)}"
        ) from error


def from_qcow2(source: Path, target: Path, data: int) -> list[Step]:
    """`data`: bytes, from `converted_size`. Holes stay holes."""
    argv = ("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "--", source, target)
    gauge = Gauge(f"convert {source.name}", (target,), data)
    return [run("convert it to a raw image", *argv, gauge=gauge, timeout=_TIMEOUT)]
