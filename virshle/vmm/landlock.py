"""Checks if the kernel's landlock (landlock(7)) is new enough for cloud-hypervisor."""

from __future__ import annotations

import functools

NEEDED = 3
"""ABI version, of Linux 6.2 and newer (cloud-hypervisor: vmm/src/landlock.rs refuses older ones)."""
_CREATE_RULESET = 444
"""The number of landlock_create_ruleset(2), the same on every architecture."""
_VERSION = 1
"""LANDLOCK_CREATE_RULESET_VERSION: returns the ABI's version and creates nothing."""


@functools.cache
def landlock_works() -> bool:
    import ctypes  # only a start needs it

    version: int = ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, _VERSION)
    return version >= NEEDED
