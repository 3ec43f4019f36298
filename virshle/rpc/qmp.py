"""QMP, QEMU's JSON protocol on a unix socket (QEMU: docs/interop/qmp-spec.rst).

The server sends a greeting, expects `qmp_capabilities`, and then answers one command after the other. Events may come
between the answers. It serves one client at a time: a second client waits for the greeting, so every wait has a limit.
"""

from __future__ import annotations

import json
import shlex
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from virshle import log
from virshle.errors import HostError, TimedOutError
from virshle.rpc.vsock import escaped

Reply = dict[str, Any]
LARGEST = 2**22
"""The largest answer, in bytes."""


@dataclass(frozen=True)
class Qmp:
    """One command to the QEMU that listens on `socket`."""

    socket: Path
    command: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 5.0
    """Seconds, for the whole exchange."""
    quiet: bool = False
    """True for a command that is repeated many times. It is not written to the log."""

    def _line(self) -> str:
        message: dict[str, Any] = {"execute": self.command}
        if self.arguments:
            message["arguments"] = dict(self.arguments)
        return json.dumps(message)

    def shell(self) -> str:
        """The same command with socat. -t2: socat must wait a moment for the answer."""
        lines = " ".join(shlex.quote(line) for line in ('{"execute":"qmp_capabilities"}', self._line()))
        return f"printf '%s\\n' {lines} | socat -t2 - {shlex.quote(f'UNIX-CONNECT:{escaped(self.socket)}')}"

    def printf(self) -> str:
        """The bytes of the command, in the form that the shell's `printf %b` reads. It must have no arguments."""
        assert not self.arguments
        return rf'{{"execute":"qmp_capabilities"}}\n{self._line()}\n'

    def send(self) -> Reply:
        """The `return` of the answer. Raises HostError if there is no QEMU or if it refuses the command, TimedOutError
        if it does not answer."""
        if not self.quiet:
            log.command(self.shell())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                talk = _Conversation(connection, time.monotonic() + self.timeout)
                talk.reach(self.socket)
                talk.hear("QMP")
                talk.say('{"execute":"qmp_capabilities"}')
                talk.hear("return")
                talk.say(self._line())
                answer = talk.hear("return")["return"]
        except TimeoutError:
            raise TimedOutError(
                f"QEMU did not answer `{self.command}` within {self.timeout:g} s",
                hint="it may be stopped or busy; look at `v logs VM --vmm`",
            ) from None
        except OSError as error:
            raise HostError(f"QEMU cannot be asked to `{self.command}`: {self.socket}: {error.strerror}") from error
        log.output(json.dumps(answer))
        return answer if isinstance(answer, dict) else {"": answer}


class _Conversation:
    """Sends and receives lines of JSON, with one deadline for all of them."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._heard = b""
        self._bound()

    def _bound(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)

    def reach(self, path: Path) -> None:
        """Connects. QEMU's queue of connections has one place, which another client may have."""
        while True:
            self._bound()
            with suppress(BlockingIOError):
                return self._connection.connect(str(path))
            time.sleep(0.05)

    def say(self, line: str) -> None:
        self._bound()
        self._connection.sendall(line.encode() + b"\n")

    def hear(self, key: str) -> Reply:
        """The next message that has `key`. Events are skipped."""
        while True:
            while b"\n" not in self._heard:
                self._bound()
                block = self._connection.recv(65536)
                if not block:
                    raise HostError(
                        "QEMU closed its QMP socket before it answered", hint="`v logs VM --vmm` may say why"
                    )
                self._heard += block
                if len(self._heard) > LARGEST:
                    raise HostError("the program that answered on QEMU's QMP socket sent too much for one answer")
            line, _, self._heard = self._heard.partition(b"\n")
            reply = _parse(line)
            if "error" in reply:
                error = reply["error"]
                raise HostError(f"QEMU refused: {error.get('desc', error) if isinstance(error, dict) else error}")
            if key in reply:
                return reply
            self._bound()


def _parse(line: bytes) -> Reply:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise HostError("the program that answered on QEMU's QMP socket does not speak QMP")
    return message
