"""The one place that starts processes: argv lists, no shell, stdin closed, time bounded, all of it shown."""

from virshle.exec.attach import attached, on_terminal
from virshle.exec.follow import follow
from virshle.exec.run import Command, Result, Started, exec_into, failure, find_program, run, spawn_ok, start, text_of

__all__ = [
    "Command",
    "Result",
    "Started",
    "attached",
    "exec_into",
    "failure",
    "find_program",
    "follow",
    "on_terminal",
    "run",
    "spawn_ok",
    "start",
    "text_of",
]
