"""What nobody means well with: words, values and files."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

WORDS = (
    "$(touch x)",
    "`touch x`",
    "a; touch x",
    "a && touch x",
    "a | touch x",
    "a > x",
    "it's",
    'say "x"',
    "'; touch x; '",
    '"; touch x; "',
    "two\nlines",
    "\nEOF\ntouch x\n",
    "\r",
    "\t",
    "\x1b]0;x\x07",
    "\x7f\x80",
    "-rf",
    "--all",
    "..",
    "../../x",
    "/etc/passwd",
    "~root",
    "$HOME",
    "${x}",
    "*",
    "a,b",
    "a:b",
    "a\\",
    "%s%n",
    "#",
    "!",
    " ",
    "",
    "é漢\u202e",
    "😀",
    "x" * 5000,
)
"""All of them text that JSON and TOML can hold."""

NUMBERS: tuple[Any, ...] = (-1, 0, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"))
VALUES: tuple[Any, ...] = (
    *WORDS,
    "\0",
    "a\0b",
    "\ud800",
    "\udcff",
    *NUMBERS,
    None,
    True,
    [],
    {},
    [[[]]],
    {"a": {}},
    [None],
)
"""What JSON can hold, as Python writes and reads it."""

FEW = settings(max_examples=40)
"""Of tests that take long for each."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)

folder_names = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0")
    | st.sampled_from("$`'\"\\;&|<>(){}*?#!~ \n,:%-"),
    min_size=1,
    max_size=12,
).filter(lambda name: name not in (".", ".."))
"""As a folder may be called, in UTF-8."""


def paths_in(data: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where in a JSON document a value is, of whatever kind."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(inner for key, item in items for inner in paths_in(item, (*path, key)))]


def changed(data: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy with another value there."""
    if not path:
        return value
    copy = json.loads(json.dumps(data))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


def toml(value: Any) -> str:
    """A value as TOML writes it; what it has no word for is text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(key))} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = str(value).encode(errors="replace").decode()
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        # The path of one is short.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


FILES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "socket": _socket,
    "loop": _loop,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "dangling link": lambda path: path.symlink_to("/nowhere/at/all"),
    "link into a file": lambda path: path.symlink_to("/etc/passwd/x"),
    "huge": _huge,
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe\0\x80"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "empty": Path.touch,
}
"""What may be in the place of a file that is read."""
