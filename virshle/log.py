"""What is told on stderr: notes, warnings, and every host command as `set -x` would show it.

Levels, as counted by -v: 1 what is being done, 2 why each step is made, 3 every command and VMM call,
4 what they printed. Nothing here goes to stdout: that is for data.
"""

from __future__ import annotations

import os
import re
import sys

_level = 0
_warned: set[str] = set()


def set_level(level: int) -> None:
    """0 (quiet) to 4."""
    global _level
    _level = level


def level() -> int:
    return _level


def coloured() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _say(text: str, style: str) -> None:
    if coloured():
        text = f"\x1b[{style}m{text}\x1b[0m"
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def info(text: str) -> None:
    """What is being done (-v)."""
    if _level >= 1:
        _say(text, "0")


def why(text: str) -> None:
    """Why the next command is run (-vv)."""
    if _level >= 2:
        _say(f"# {text}", "2")


def command(shell: str) -> None:
    """A host command or VMM call, ready to paste (-vvv)."""
    if _level >= 3:
        _say("+ " + printable(shell), "36")


def output(text: str) -> None:
    """What a command printed (-vvvv)."""
    if _level >= 4 and text.strip():
        _say("  " + printable(text.rstrip()).replace("\n", "\n  "), "2")


def note(text: str) -> None:
    """Something the user should know even without -v."""
    _say(text, "0")


def warn(text: str) -> None:
    """A problem that stops nothing; said once per process."""
    if text not in _warned:
        _warned.add(text)
        _say(f"warning: {printable(text)}", "33")


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""And what is no character at all, but a byte of a path that is not UTF-8."""


def printable(text: str) -> str:
    """Control characters made visible, so that a name or a log line cannot drive the terminal."""
    return _CONTROL.sub(lambda hit: f"\\x{ord(hit[0]) & 0xFF:02x}", text)
