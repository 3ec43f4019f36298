"""Whoever asks a warm `v`."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

Fault = tuple[str, str, int]
"""What happens to `v`, when, and at which of its steps: see tests/warm/driver.py."""
NO_FAULT: Fault = ("none", "before", 0)


@dataclass
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str
    steps: list[str] = field(default_factory=list)
    """What each step was for that it began."""
    made: bool = False
    """Whether the fault was made: not every step gives occasion for every one."""


class Warm:
    """`server`: a process of `python -m tests.warm`, with pipes."""

    def __init__(self, server: subprocess.Popen[bytes]) -> None:
        self._server = server

    @property
    def alive(self) -> bool:
        return self._server.poll() is None

    def ask(self, words: Sequence[str], timeout: float, *, stdin: str = "", fault: Fault = NO_FAULT) -> Done:
        """Raises TimeoutError, EOFError; the server is of no use then."""
        assert self._server.stdin
        assert self._server.stdout
        request = json.dumps({"words": words, "stdin": stdin, "fault": fault})
        self._server.stdin.write(request.encode() + b"\n")
        self._server.stdin.flush()
        answer, end = b"", time.monotonic() + timeout
        while not answer.endswith(b"\n"):
            if not select.select([self._server.stdout], [], [], max(end - time.monotonic(), 0))[0]:
                raise TimeoutError(f"not done after {timeout:.0f} s: {request}")
            block = os.read(self._server.stdout.fileno(), 1 << 16)
            if not block:
                raise EOFError(request)
            answer += block
        return Done(**json.loads(answer))

    def end(self) -> None:
        self._server.kill()
        self._server.communicate()
