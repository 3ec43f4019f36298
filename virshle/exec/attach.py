"""A command on our own terminal, whose end we wait for."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from virshle import log
from virshle.exec.run import find_program, missing


def on_terminal() -> bool:
    """Whether a command that is given our input and our output can have a terminal of its own: both are one, so that
    nothing is changed on its way through a pipe."""
    return os.isatty(0) and os.isatty(1)


def attached(argv: Sequence[str]) -> int:
    """Its exit code, or 128 and the number of the signal that ended it. Its input, its output and its environment are
    ours. When we are interrupted it ends first. Raises ConfigError when there is no such program."""
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
