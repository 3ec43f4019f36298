"""Checks if this host has enough memory for a VM."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from virshle.errors import ConfigError
from virshle.model.units import format_size


def check_memory(wanted: int, proc: Path = Path("/proc")) -> None:
    """Raises ConfigError if the VM wants more than the host's memory and swap together. The kernel refuses a process
    that much memory (Linux: mm/util.c, __vm_enough_memory), unless overcommit_memory is 1 (proc(5))."""
    with suppress(OSError, ValueError, LookupError):
        if (proc / "sys/vm/overcommit_memory").read_text().strip() == "1":
            return
        lines = (line.split() for line in (proc / "meminfo").read_text().splitlines())
        known = {words[0]: int(words[1]) << 10 for words in lines if words[0] in ("MemTotal:", "SwapTotal:")}
        there = known["MemTotal:"] + known["SwapTotal:"]
        if wanted > there:
            raise ConfigError(
                f"the VM needs {format_size(wanted)} of memory, and this host has {format_size(there)} with its swap",
                hint="make vram smaller",
            )
