"""Sizes: bytes inside the program, `2GiB` for people."""

from __future__ import annotations

import re

_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = re.compile(r"(\d{1,15})\s*(B|KiB|MiB|GiB|TiB)")
LARGEST = 2**60


def parse_size(text: object) -> int:
    """Bytes of `"512MiB"`. Raises ValueError."""
    if isinstance(text, str) and (hit := _SIZE.fullmatch(text.strip())):
        size = int(hit[1]) * _UNITS[hit[2]]
        if 0 < size <= LARGEST:
            return size
    raise ValueError(f'{text!r} is not a size: write a whole number and B, KiB, MiB, GiB or TiB, as in "2GiB"')


def format_size(size: int) -> str:
    """The size in the largest unit that fits, with one decimal if it is not a whole number: 1536 MiB is `1.5GiB`."""
    for unit, factor in reversed(_UNITS.items()):
        if size >= factor:
            return f"{size // factor}{unit}" if size % factor == 0 else f"{size / factor:.1f}{unit}"
    return f"{size}B"
