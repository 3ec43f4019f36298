"""Reads Nix's internal-json log while Nix builds.

Lines are `@nix {json}`. Other lines may be mixed in (from ssh, warnings). Actions are start, stop, result and msg.
Activity and result types are numbers (Nix: src/libutil/include/nix/util/logging.hh, read in Nix 2.8 to 2.36).
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from virshle import log
from virshle.nix.trouble import hint_for
from virshle.plan import Progress

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
TRANSFER, BUILDS, BUILD = 101, 104, 105
LOG_LINE, SET_PHASE, PROGRESS, SET_EXPECTED = 101, 104, 105, 106
_LONGEST = 1000
"""The number of characters of a line that are kept: a builder may write megabytes without a newline."""


@dataclass
class _Activity:
    type: int
    text: str
    derivation: str = ""
    done: int = 0
    expected: int = 0
    phase: str = ""
    last: str = ""


@dataclass
class NixLog:
    """A follower of one `nix build`. It reports to `progress`, and keeps the lines to show after a failure."""

    progress: Progress
    title: str
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    builder: deque[str] = field(default_factory=lambda: deque(maxlen=25))
    """The last lines of the builders."""
    _activities: dict[int, _Activity] = field(default_factory=dict)
    _downloaded: int = 0
    _to_download: int = 0

    def line(self, text: str) -> None:
        if not text.startswith("@nix "):
            log.output(text)
            if text.strip():
                self.errors.append(_cut(_ANSI.sub("", text)))
            return
        with suppress(ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError):
            self._message(json.loads(text[5:]))

    def _message(self, message: dict[str, Any]) -> None:
        match message["action"]:
            case "start":
                fields = message.get("fields") or [""]
                derivation = str(fields[0]) if message["type"] == BUILD else ""
                self._activities[message["id"]] = _Activity(message["type"], _cut(message.get("text", "")), derivation)
            case "stop":
                ended = self._activities.pop(message["id"], None)
                if ended is not None and ended.type == TRANSFER:
                    self._downloaded += ended.done
            case "result":
                self._result(self._activities[message["id"]], message["type"], message.get("fields", []))
            case "msg" if message.get("level", 0) <= 1:
                said = _ANSI.sub("", message.get("raw_msg") or message["msg"])
                log.output(said)
                told = self.errors if message.get("level", 0) == 0 else self.warnings
                told += [_cut(line) for line in said.splitlines() if line.strip()]
        self._tell()

    def _result(self, activity: _Activity, kind: int, fields: Sequence[Any]) -> None:
        if kind == PROGRESS:
            activity.done, activity.expected = int(fields[0]), int(fields[1])
        elif kind == SET_EXPECTED and int(fields[0]) == TRANSFER:
            self._to_download = int(fields[1])
        elif kind == SET_PHASE:
            activity.phase = _cut(str(fields[0]))
        elif kind == LOG_LINE:
            said = _ANSI.sub("", str(fields[0]))
            activity.last = _cut(said)
            self.builder.append(activity.last)
            log.output(said)

    def _tell(self) -> None:
        """Reports downloads in bytes while there are downloads and no builds, else the number of builds."""
        active = list(self._activities.values())
        running = [activity for activity in active if activity.type == BUILD]
        transfers = [activity for activity in active if activity.type == TRANSFER]
        if transfers and not running:
            done = self._downloaded + sum(activity.done for activity in transfers)
            total = max(self._to_download, self._downloaded + sum(activity.expected for activity in transfers))
            self.progress.update(self.title, done, total, "B", transfers[-1].text)
            return
        builds = next((activity for activity in active if activity.type == BUILDS), None)
        now = ""
        if running:
            step = running[-1]
            now = " ".join(filter(None, [_name(step.derivation), step.phase, step.last]))
        elif active:
            now = active[-1].text
        self.progress.update(self.title, builds.done if builds else 0, builds.expected if builds else 0, "", now)

    def failure(self) -> list[str]:
        """The last lines of the builder, and then the errors of Nix."""
        # The first errors say what went wrong. The last ones say which of several errors ended the build.
        cut = [*self.errors[:12], "...", *self.errors[-6:]] if len(self.errors) > 18 else self.errors
        lines = [f"  {log.printable(line)}" for line in cut]
        if self.builder and not any("last" in line and "log lines" in line for line in self.errors):
            lines = ["the builder's last lines:", *(f"  > {log.printable(line)}" for line in self.builder), *lines]
        return lines

    def hint(self) -> str:
        """What the user can do about the failure. Empty if that is not known."""
        return hint_for([*self.errors, *self.builder], self.warnings)


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}... ({len(line)} characters)"


def _name(derivation: str) -> str:
    """`tiny` of /nix/store/HASH-tiny.drv"""
    return derivation.rpartition("/")[2].removesuffix(".drv")[33:]
