"""The conditions that a Wait waits for. Each can show itself as a shell test, and says if it is true now."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from virshle.errors import VirshleError
from virshle.exec.process import gone_shell, running
from virshle.fs import START, read_start

PATIENCE = 2
"""Seconds to wait for the first words of a server, in the first tries."""


class Condition(Protocol):
    def shell(self) -> str: ...
    def holds(self, patience: float = PATIENCE) -> bool:
        """True if the condition is true now. `patience`: seconds to wait for an answer, if the condition needs one."""


@dataclass(frozen=True)
class Contains:
    """Near its beginning, the file has a line that is exactly `line`."""

    path: Path
    line: str

    def shell(self) -> str:
        start = f"head -c {START} -- {shlex.quote(str(self.path))} 2>/dev/null"
        return f"{start} | grep -qxF {shlex.quote(self.line)}"

    def holds(self, patience: float = PATIENCE) -> bool:
        with suppress(OSError):
            # A guest may write without a limit. Its important messages come first.
            return self.line in read_start(self.path).splitlines()
        return False


@dataclass(frozen=True)
class Gone:
    """The process of a record (see `virshle.exec.process`) has ended."""

    record: Path

    def shell(self) -> str:
        return gone_shell(self.record)

    def holds(self, patience: float = PATIENCE) -> bool:
        return running(self.record) is None


class Request(Protocol):
    """One request to a VMM: see `virshle.rpc`."""

    def shell(self) -> str: ...
    def send(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Replies:
    """The VMM answers a request. `word` is in every good answer; only the shell test needs it."""

    request: Request
    word: str

    def shell(self) -> str:
        return f"{self.request.shell()} 2>/dev/null | grep -qF {shlex.quote(self.word)}"

    def holds(self, patience: float = PATIENCE) -> bool:
        with suppress(VirshleError):
            self.request.send()
            return True
        return False


@dataclass(frozen=True)
class Greets:
    """A server on a loopback port sends its first text, which begins with `greeting`."""

    port: int
    greeting: str

    def shell(self) -> str:
        count = len(self.greeting)
        read = f"timeout {PATIENCE} head -c{count} </dev/tcp/127.0.0.1/{self.port}"
        return f'[ "$({read} 2>/dev/null)" = {shlex.quote(self.greeting)} ]'

    def holds(self, patience: float = PATIENCE) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), patience) as connection:
            connection.settimeout(patience)
            return connection.recv(len(self.greeting)) == self.greeting.encode()
        return False


class Way(Protocol):
    """A way to a server in a guest: see `virshle.rpc.vsock`."""

    def shell(self) -> str: ...
    def connect(self, timeout: float) -> socket.socket: ...


@dataclass(frozen=True)
class GreetsVsock:
    """A server on a port of the guest's vsock sends its first text, which begins with `greeting`."""

    way: Way
    greeting: str

    def shell(self) -> str:
        read = f"timeout {PATIENCE} {self.way.shell()} </dev/null 2>/dev/null | head -c{len(self.greeting)}"
        return f'[ "$({read})" = {shlex.quote(self.greeting)} ]'

    def holds(self, patience: float = PATIENCE) -> bool:
        with suppress(OSError), self.way.connect(patience) as connection:
            return connection.recv(len(self.greeting)) == self.greeting.encode()
        return False


@dataclass(frozen=True)
class AnyOf:
    """At least one of several conditions is true."""

    conditions: tuple[Condition, ...]

    def shell(self) -> str:
        return f"{{ {' || '.join(condition.shell() for condition in self.conditions)}; }}"

    def holds(self, patience: float = PATIENCE) -> bool:
        return any(condition.holds(patience) for condition in self.conditions)
