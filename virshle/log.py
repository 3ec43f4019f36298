"""Messages on stderr: notes, warnings, and every host command as `set -x` would show it.

Each -v adds a level: 1 what is being done, 2 why each step is done, 3 every command and VMM call, 4 their output.
Nothing goes to stdout, which is for data.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from typing import TextIO

_level = 0
_warned: set[str] = set()


def set_level(level: int) -> None:
    """0 (quiet) to 4."""
    global _level
    _level = level


def level() -> int:
    return _level


def drawn(stream: TextIO) -> bool:
    """True if it is a terminal that can do more than plain text: move the cursor, show bold letters."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def coloured(stream: TextIO) -> bool:
    """True if colours may be used. https://no-color.org: NO_COLOR counts if it is not empty."""
    return drawn(stream) and not os.environ.get("NO_COLOR")


def _say(text: str, style: str) -> None:
    if coloured(sys.stderr):
        text = f"\x1b[{style}m{text}\x1b[0m"
    # If stderr cannot be written, the work goes on without messages.
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201


def info(text: str) -> None:
    """What is being done (-v)."""
    if _level >= 1:
        _say(printable(text), "0")


def why(text: str) -> None:
    """Why the next command is run (-vv)."""
    if _level >= 2:
        _say(f"# {one_line(text)}", "2")


def command(shell: str) -> None:
    """A host command or VMM call, ready to paste (-vvv)."""
    if _level >= 3:
        _say("+ " + pasteable(shell), "36")


def output(text: str) -> None:
    """The output of a command (-vvvv)."""
    if _level >= 4 and text.strip():
        _say("  " + printable(text.rstrip()).replace("\n", "\n  "), "2")


def note(text: str) -> None:
    """Something the user should know even without -v."""
    _say(printable(text), "0")


def warn(text: str) -> None:
    """A problem that does not stop the command. Each warning is shown once per process."""
    if text not in _warned:
        _warned.add(text)
        _say(f"warning: {printable(text)}", "33")


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LINES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and the surrogates that Python makes from bytes of a path that are not UTF-8. The first pattern
leaves newlines and tabs out."""


def one_line(text: str) -> str:
    """As `printable`, with newlines and tabs made visible too: the result is one line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def pasteable(shell: str, *, lines: bool = True) -> str:
    """Makes the control characters of a shell command visible without changing its meaning. They can only be in single
    quotes (`shlex.quote`), next to which bash, zsh and ksh can have $'...'. `lines`: newlines may stay."""
    return (_CONTROL if lines else _LINES).sub(_quoted, shell)


def _quoted(hit: re.Match[str]) -> str:
    code = ord(hit[0])
    # Python decodes a byte that is not UTF-8 as U+DC00 plus its value (PEP 383).
    return f"'$'\\u{code:04x}''" if 0x7F < code < 0x100 else f"'$'\\x{code & 0xFF:02x}''"


def printable(text: str) -> str:
    """Makes control characters visible, so that a name or a line of a log cannot control the terminal."""
    return _CONTROL.sub(lambda hit: f"\\x{ord(hit[0]) & 0xFF:02x}", text)
