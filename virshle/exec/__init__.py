"""The only package that starts processes. Commands are argv lists, without a shell, with stdin closed and with a time
limit. Each one is written to the log."""

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
