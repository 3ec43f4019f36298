"""Runs a command on our own terminal and waits for its end."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from virshle import log
from virshle.exec.run import find_program, missing


def on_terminal() -> bool:
    """True if our input and our output are both a terminal. Then a command that gets them may use its own terminal
    modes: no data goes through a pipe and is changed there."""
    return os.isatty(0) and os.isatty(1)


def attached(argv: Sequence[str]) -> int:
    """Runs the command with our input, output and environment. Returns its exit code, or 128 plus the number of the
    signal that ended it. If we are interrupted, the command is ended first. Raises ConfigError if there is no such
    program."""
    import subprocess

    program = find_program(argv[0])
    if program is None:
        raise missing(argv[0])
    log.command(shlex.join(argv))
    process = subprocess.Popen((program, *argv[1:]))
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    return code if code >= 0 else 128 - code
