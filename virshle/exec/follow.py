"""Runs long commands and reads their output while they run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from virshle import log
from virshle.errors import TimedOutError
from virshle.exec.run import Command, Result, environment, failure, find_program, missing

_BYTES = "latin-1"
"""In this encoding each byte is a character. `sh` refuses words that do not fit its encoding, and a path may have any
bytes."""


def follow(
    command: Command,
    on_line: Callable[[str], None],
    *,
    locks: Iterable[int] = (),
    check: bool = True,
) -> Result:
    """Runs the command to its end. Gives each line of its stderr to `on_line`, and collects its stdout.

    Raises the same errors as `run`. Ctrl-C interrupts the command first, so that nix can clean up.
    """
    # The import takes as much time as the rest of a short command.
    import sh

    program = find_program(command.argv[0])
    if program is None:
        raise missing(command.argv[0])
    log.command(command.shell())
    started = time.monotonic()
    stdout: list[str] = []
    process: Any = sh.Command(program)(
        *(os.fsencode(word).decode(_BYTES) for word in command.argv[1:]),
        _in=None,
        _out=lambda line: stdout.append(_text(line)),
        _err=lambda line: on_line(_text(line).rstrip("\n")),
        _env=environment(command),
        _cwd=str(command.cwd) if command.cwd else None,
        _tty_out=False,
        _return_cmd=True,
        _truncate_exc=False,
        _encoding=_BYTES,
        _pass_fds=set(locks),
        _new_session=True,
        _bg=True,
        _bg_exc=False,
    )
    # sh's own _timeout ends only the direct child, not the processes that the child started.
    try:
        _wait(process, command.timeout)
    except sh.TimeoutException:
        _end(process)
        raise TimedOutError(
            f"`{command.argv[0]}` did not end within {command.timeout:g} s and was killed",
            details=[f"command: {command.shell()}"],
        ) from None
    except BaseException:
        _interrupt(process)
        raise
    result = Result(command, process.exit_code, "".join(stdout), "", time.monotonic() - started)
    if check and result.code not in command.ok:
        raise failure(result)
    return result


def _text(said: object) -> str:
    return str(said).encode(_BYTES).decode(errors="replace")


def _wait(process: Any, timeout: float) -> None:
    import sh

    with suppress(sh.ErrorReturnCode):
        process.wait(timeout=timeout)
    # The wait above returns when the command has ended, but some of its output may be unread. This wait reads the rest.
    # If another process inherited the pipes, this reads for at most two more seconds.
    process.process.wait()


def _interrupt(process: Any) -> None:
    import sh

    with suppress(ProcessLookupError, OSError):
        process.signal_group(signal.SIGINT)
    try:
        _wait(process, 10)
    except sh.TimeoutException:
        _end(process)


def _end(process: Any) -> None:
    with suppress(ProcessLookupError, OSError):
        process.kill_group()
    _wait(process, 10)
