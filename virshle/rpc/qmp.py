"""QMP, QEMU's JSON protocol on a unix socket (QEMU: docs/interop/qmp-spec.rst).

The server greets, wants `qmp_capabilities`, then answers one command after the other; events may come in
between. It serves one client at a time: a second one waits for the greeting, so every wait is bounded.
"""

from __future__ import annotations

import json
import shlex
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from virshle import log
from virshle.errors import HostError, TimedOutError

Reply = dict[str, Any]


@dataclass(frozen=True)
class Qmp:
    """One command to the QEMU that listens on `socket`."""

    socket: Path
    command: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 5.0
    """Seconds, for the whole exchange."""
    quiet: bool = False
    """One of many that ask the same again and again; not shown."""

    def _line(self) -> str:
        message: dict[str, Any] = {"execute": self.command}
        if self.arguments:
            message["arguments"] = dict(self.arguments)
        return json.dumps(message)

    def shell(self) -> str:
        """The same by socat, which must stay a moment for the answer."""
        lines = " ".join(shlex.quote(line) for line in ('{"execute":"qmp_capabilities"}', self._line()))
        return f"printf '%s\\n' {lines} | socat -t2 - {shlex.quote(f'UNIX-CONNECT:{self.socket}')}"

    def send(self) -> Reply:
        """The answer's `return`. Raises HostError when there is no QEMU or it refuses, TimedOutError when it
        does not answer."""
        if not self.quiet:
            log.command(self.shell())
        deadline = time.monotonic() + self.timeout
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                _bound(connection, deadline)
                connection.connect(str(self.socket))
                with connection.makefile("rb") as lines:
                    _read(connection, lines, deadline, "QMP")
                    connection.sendall(b'{"execute":"qmp_capabilities"}\n')
                    _read(connection, lines, deadline, "return")
                    connection.sendall(self._line().encode() + b"\n")
                    answer = _read(connection, lines, deadline, "return")["return"]
        except TimeoutError:
            raise TimedOutError(
                f"QEMU did not answer `{self.command}` within {self.timeout:g} s",
                hint="it may be stopped or busy; look at `v logs VM --vmm`",
            ) from None
        except OSError as error:
            raise HostError(f"QEMU cannot be asked to `{self.command}`: {self.socket}: {error.strerror}") from error
        log.output(json.dumps(answer))
        return answer if isinstance(answer, dict) else {"": answer}


def _bound(connection: socket.socket, deadline: float) -> None:
    connection.settimeout(max(deadline - time.monotonic(), 0.001))


def _read(connection: socket.socket, lines: Any, deadline: float, key: str) -> Reply:
    """The next message that has `key`; events are passed over."""
    while True:
        _bound(connection, deadline)
        line = lines.readline()
        if not line:
            raise HostError("QEMU closed its QMP socket before it answered", hint="`v logs VM --vmm` may say why")
        message = json.loads(line)
        if "error" in message:
            raise HostError(f"QEMU refused: {message['error'].get('desc', message['error'])}")
        if key in message:
            return dict(message)
