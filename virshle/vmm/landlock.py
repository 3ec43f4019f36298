"""Whether the kernel confines processes by landlock (landlock(7)) as far as cloud-hypervisor wants it to."""

from __future__ import annotations

import functools

NEEDED = 3
"""ABI version; Linux 6.2 and newer (cloud-hypervisor: vmm/src/landlock.rs refuses less)."""
_CREATE_RULESET = 444
"""Number of landlock_create_ruleset(2), the same on every architecture."""
_VERSION = 1
"""LANDLOCK_CREATE_RULESET_VERSION: tells the ABI's version and makes nothing."""


@functools.cache
def landlock_works() -> bool:
    import ctypes  # only wanted at a start

    version: int = ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, _VERSION)
    return version >= NEEDED
