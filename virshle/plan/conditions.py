"""What a Wait waits for. Each says itself in words, as a shell test, and whether it holds now."""

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
"""Seconds for which a server's first words are waited for, at first."""


class Condition(Protocol):
    def shell(self) -> str: ...
    def holds(self, patience: float = PATIENCE) -> bool:
        """`patience`: seconds for which an answer is waited, where one is asked for."""


@dataclass(frozen=True)
class Contains:
    """A file has a line that is `line`, not far from its beginning."""

    path: Path
    line: str

    def shell(self) -> str:
        start = f"head -c {START} -- {shlex.quote(str(self.path))} 2>/dev/null"
        return f"{start} | grep -qxF {shlex.quote(self.line)}"

    def holds(self, patience: float = PATIENCE) -> bool:
        with suppress(OSError):
            # A guest may write without end; what it has to say comes first.
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
    """A request is answered; `word` is in every good answer, and tells the shell."""

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
    """A server on a loopback port speaks first, and begins with `greeting`."""

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
    """To a server in a guest: see `virshle.rpc.vsock`."""

    def shell(self) -> str: ...
    def connect(self, timeout: float) -> socket.socket: ...


@dataclass(frozen=True)
class GreetsVsock:
    """A server on a port of the guest's vsock speaks first, and begins with `greeting`."""

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
    """One of several."""

    conditions: tuple[Condition, ...]

    def shell(self) -> str:
        return f"{{ {' || '.join(condition.shell() for condition in self.conditions)}; }}"

    def holds(self, patience: float = PATIENCE) -> bool:
        return any(condition.holds(patience) for condition in self.conditions)
