"""cloud-hypervisor's REST API on a unix socket (cloud-hypervisor: docs/api.md, v48 to v53).

Success is 200 with a body or 204 without one. An error's body is a JSON array of strings: the outermost message first,
the root cause last. For a body that is too large it is an object, and in versions before 47 it is plain text. One
thread serves one request after the other, so every exchange has a time limit."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virshle import log
from virshle.errors import HostError, TimedOutError

_BASE = "/api/v1/"
_WHO = "cloud-hypervisor"
LARGEST = 51200
"""The largest body, in bytes, that v53 and older accept."""

_HINTS = {
    "is already locked": "another VMM has this disk open: `fuser -v DISK` shows the process",
    "Permission denied": "the user that runs the VMM may not open it; `v doctor` checks permissions",
    "Address already in use": "another process listens on one of its sockets: look into its runtime folder (v info)",
    "Cannot allocate memory": "the host has not enough free memory: stop another program, or give the VM less",
    "No such file or directory": "a file that it needs is missing; `v info` shows all its files",
}


@dataclass(frozen=True)
class Http:
    """One request to the cloud-hypervisor that listens on `socket`, for example `vm.info`."""

    socket: Path
    endpoint: str
    body: Mapping[str, Any] | None = None
    method: str = "PUT"
    timeout: float = 10.0
    """Seconds, for the whole exchange."""
    quiet: bool = False
    """True for a request that is repeated many times. It is not written to the log."""

    def _text(self) -> str | None:
        return None if self.body is None else json.dumps(self.body)

    def shell(self) -> str:
        words = ["curl", "-sS", "--fail-with-body", "--unix-socket", str(self.socket)]
        if self.method != "GET":
            words += ["-X", self.method]
        if (text := self._text()) is not None:
            words += ["-H", "Content-Type: application/json", "-d", text]
        return shlex.join([*words, f"http://localhost{_BASE}{self.endpoint}"])

    def printf(self) -> str:
        """The bytes of the request, in the form that the shell's `printf %b` reads. The request must have no body."""
        assert self.body is None
        return rf"{self.method} {_BASE}{self.endpoint} HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def send(self) -> dict[str, Any]:
        """The answer; {} if it is empty. Raises HostError if there is no cloud-hypervisor or if it refuses the request,
        TimedOutError if it does not answer."""
        if not self.quiet:
            log.command(self.shell())
        try:
            status, answer = self._exchange()
        except TimeoutError:
            raise TimedOutError(
                f"{_WHO} did not answer `{self.endpoint}` within {self.timeout:g} s",
                hint="it may be stopped or busy; look at `v logs VM --vmm`",
            ) from None
        except OSError as error:
            why = error.strerror or str(error)
            raise HostError(f"{_WHO} cannot be asked to `{self.endpoint}`: {self.socket}: {why}") from error
        if not self.quiet:
            log.output(answer.decode(errors="replace"))
        if status not in (200, 204):
            raise _refused(self.endpoint, status, answer)
        return _parse(answer, self.endpoint)

    def _exchange(self) -> tuple[int, bytes]:
        # This import is slow, and only needed if there is a VMM to ask.
        from virshle.rpc.unix import UnixConnection, explained

        with explained(), UnixConnection(self.socket, self.timeout) as connection:
            text = self._text()
            headers = {"Content-Type": "application/json"} if text is not None else {}
            connection.request(self.method, _BASE + self.endpoint, body=text, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(2**22)


def _refused(endpoint: str, status: int, answer: bytes) -> HostError:
    chain = _chain(answer)
    hint = next((hint for key, hint in _HINTS.items() if any(key in message for message in chain)), "")
    # "Error from API" says nothing new.
    told = [message for message in chain if message != "Error from API"] or [f"HTTP status {status}"]
    return HostError(f"{_WHO} refused `{endpoint}`: {': '.join(told)}", hint=hint)


def _chain(answer: bytes) -> list[str]:
    text = answer.decode(errors="replace").strip()
    try:
        error = json.loads(text)
    except (ValueError, RecursionError):
        return [text] if text else []
    if isinstance(error, dict):
        error = [error.get("error", error)]
    return [str(message) for message in error] if isinstance(error, list) else [str(error)]


def _parse(answer: bytes, endpoint: str) -> dict[str, Any]:
    if not answer.strip():
        return {}
    try:
        told = json.loads(answer)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise HostError(f"the program that answered `{endpoint}` is not {_WHO}: its answer is not a JSON object")
    return told
