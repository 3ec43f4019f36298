"""What `follow` makes of a real process."""

from __future__ import annotations

import os
import time

from virshle.exec import Command, follow


def test_all_that_a_command_said_is_read_before_it_counts_as_ended() -> None:
    def slow(line: str) -> None:
        said.append(line)
        time.sleep(0.3)

    said: list[str] = []
    result = follow(Command(("sh", "-c", "echo one >&2; echo two >&2; echo result")), slow)
    assert (said, result.stdout) == (["one", "two"], "result\n")


def test_who_inherited_its_pipes_is_not_waited_for() -> None:
    before = time.monotonic()
    assert follow(Command(("sh", "-c", "sleep 20 & echo result")), print).stdout == "result\n"
    assert time.monotonic() - before < 15


def test_words_and_what_is_said_may_be_of_no_encoding() -> None:
    said: list[str] = []
    word = os.fsdecode(b"a\xff\xc3\xa9")
    result = follow(
        Command(("sh", "-c", "printf %s \"$1\" | od -An -tx1; printf '\\303\\251 \\377\\n' >&2", "sh", word)),
        said.append,
    )
    assert (result.stdout.split(), said) == (["61", "ff", "c3", "a9"], ["é �"])
