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
    """Before anything is opened: what the caller closed (`2>&-`) becomes /dev/null. Else the next file that is opened,
    a lock say, gets that number, and is written to by whoever has something to tell."""
    with suppress(OSError):
        for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
            if not _is_open(number):
                # The lowest number that is free, which is this one (open(2)); commands need it too.
                os.set_inheritable(os.open(os.devnull, flags), True)
        # To Python a stream that was closed is None, by which `print` means stdout.
        sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
        sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
        sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's characters cannot write is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def styled(stream: TextIO, text: str, *, fg: str | None = None, bold: bool = False) -> str:
    """For that stream."""
    return click.style(text, fg=fg, bold=bold or None) if log.coloured(stream) else text


_STYLE = r"\x1b\[[0-9;:]{0,32}m"
_DROPPED = re.compile(rf"{_STYLE}|\r+(?=\n)")
_UNFINISHED = re.compile(r"(?:\x1b(?:\[[0-9;:]{0,32})?|\r+)?\Z")


class Tamed:
    """What somebody else wrote, block by block, as text that cannot drive a terminal: colours and the returns at the
    ends of lines are dropped, every other control character is made visible."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._kept = ""

    def __call__(self, block: bytes, *, last: bool = False) -> str:
        """Keeps what may be the beginning of a colour, until more comes or that was the `last` one."""
        text = self._kept + self._decoder.decode(block, last)
        end = _UNFINISHED.search(text)
        at = len(text) if last or end is None else end.start()
        self._kept = text[at:]
        return log.printable(_DROPPED.sub("", text[:at]))
