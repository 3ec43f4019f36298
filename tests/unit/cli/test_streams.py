from __future__ import annotations

import pytest

from virshle.cli.streams import Tamed


def _shown(*blocks: bytes) -> str:
    tamed = Tamed()
    return "".join(tamed(block) for block in blocks) + tamed(b"", last=True)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"one\r\ntwo\r\n", "one\ntwo\n"),
        (b"\x1b[0;32m  OK  \x1b[0m ready\r\n", "  OK   ready\n"),
        (b"\x1b[2J\x1b]0;title\x07\x1b[6n", r"\x1b[2J\x1b]0;title\x07\x1b[6n"),
        (b"10%\r20%\r\n", "10%\\x0d20%\n"),
        (b"\xc2\x9b31m", r"\x9b31m"),
        (b"\xff\xc3\xa9", "\ufffd\xe9"),
        (b"login: ", "login: "),
        (b"\x1b[" + b"1" * 99 + b"m", "\\x1b[" + "1" * 99 + "m"),
    ],
)
def test_what_a_guest_says_cannot_drive_the_terminal(said: bytes, shown: str) -> None:
    assert _shown(said) == shown
    # However it comes.
    assert _shown(*(said[at : at + 1] for at in range(len(said)))) == shown


def test_what_is_said_without_an_end_of_line_is_shown_at_once() -> None:
    assert Tamed()(b"login: ") == "login: "
