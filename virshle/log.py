"""Messages on stderr: notes, warnings, and every host command in the way `set -x` shows it.

Levels, by the number of -v: 1 what is being done, 2 why each step is made, 3 every command and VMM call,
4 the output of commands and calls. Nothing here goes to stdout: stdout is for data.
"""

from __future__ import annotations

import os
import re
import sys
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
    """True if it is a terminal that can do more than print text: move the cursor, print bold letters."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def coloured(stream: TextIO) -> bool:
    """True if colours are allowed. https://no-color.org: NO_COLOR counts if it is not empty."""
    return drawn(stream) and not os.environ.get("NO_COLOR")


def _say(text: str, style: str) -> None:
    if coloured(sys.stderr):
        text = f"\x1b[{style}m{text}\x1b[0m"
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
    """A problem that does not stop the command. Each warning is printed once per process."""
    if text not in _warned:
        _warned.add(text)
        _say(f"warning: {printable(text)}", "33")


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LINES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, newlines and tabs too, and single surrogates: Python's form of bytes that are not UTF-8."""


def one_line(text: str) -> str:
    """Like `printable`, and also with newlines and tabs made visible, so that the text has one line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def pasteable(shell: str, *, lines: bool = True) -> str:
    """A shell command with its control characters made visible, which still means the same. Control characters are
    always in single quotes (`shlex.quote`), and there bash, zsh and ksh allow $'...'. `lines`: newlines may stay."""
    return (_CONTROL if lines else _LINES).sub(_quoted, shell)


def _quoted(hit: re.Match[str]) -> str:
    code = ord(hit[0])
    # A byte that is not UTF-8 becomes U+DC00 plus its value in Python (PEP 383).
    return f"'$'\\u{code:04x}''" if 0x7F < code < 0x100 else f"'$'\\x{code & 0xFF:02x}''"


def printable(text: str) -> str:
    """The text with its control characters made visible, so that a name or a log line cannot control the terminal."""
    return _CONTROL.sub(lambda hit: f"\\x{ord(hit[0]) & 0xFF:02x}", text)
