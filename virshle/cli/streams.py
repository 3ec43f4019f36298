"""The three standard streams, as the caller gave them."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from contextlib import suppress
from typing import TextIO

import click

from virshle import log


def mend() -> None:
    """Opens /dev/null for each stream that the caller closed (`2>&-`). It must run before anything is opened: else the
    next open file, for example a lock, gets the number of the stream, and messages are written into that file."""
    with suppress(OSError):
        for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
            if not _is_open(number):
                # open(2) gives the lowest free number, which is this one. Commands that we start need the stream too.
                os.set_inheritable(os.open(os.devnull, flags), True)
        # Python sets a closed stream to None, and `print(file=None)` writes to stdout.
        sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
        sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
        sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        # A name with characters that the terminal's encoding does not have must not be an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def styled(stream: TextIO, text: str, *, fg: str | None = None, bold: bool = False) -> str:
    """The text in colour or bold, if the stream takes that."""
    return click.style(text, fg=fg, bold=bold or None) if log.coloured(stream) else text


_STYLE = r"\x1b\[[0-9;:]{0,32}m"
_DROPPED = re.compile(rf"{_STYLE}|\r+(?=\n)")
_UNFINISHED = re.compile(r"(?:\x1b(?:\[[0-9;:]{0,32})?|\r+)?\Z")


class Tamed:
    """Makes text that a guest or a VMM wrote safe for a terminal, block by block. Colours and carriage returns at the
    ends of lines are dropped; every other control character is made visible."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._kept = ""

    def __call__(self, block: bytes, *, last: bool = False) -> str:
        """A colour that a block begins but does not end is kept for the next block, except in the `last` one."""
        text = self._kept + self._decoder.decode(block, last)
        end = _UNFINISHED.search(text)
        at = len(text) if last or end is None else end.start()
        self._kept = text[at:]
        return log.printable(_DROPPED.sub("", text[:at]))
