"""Flake references: of which folder they are, which attribute is meant, and exactly which flake Nix takes them for."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from virshle import log
from virshle.errors import ConfigError, HostError
from virshle.exec import Command
from virshle.model.vm import Pin
from virshle.nix.host import NixHost
from virshle.nix.log import NixLog
from virshle.plan import Progress, followed

_LOOK_UP_TIMEOUT = 3600.0
_LOCAL = re.compile(r"(?P<scheme>(?:path|(?:git|hg)\+file):)?(?P<path>(?:~|\.\.?)(?:/[^?]*)?)(?P<query>\?.*)?")
_SYSTEM = re.compile(r'nixosConfigurations\.("[^"]+"|[^."^]+)')


@dataclass(frozen=True)
class Reference:
    flake: str
    """Absolute where it is of this host."""
    attribute: str

    def __str__(self) -> str:
        return f"{self.flake}#{self.attribute}"


def reference(text: str, local: Callable[[str], Path], *, whose: str) -> Reference:
    """Of `FLAKE#ATTRIBUTE`; that of a NixOS configuration means its image. `local` makes a path absolute. Raises
    ConfigError."""
    flake, _, attribute = text.partition("#")
    if not attribute or flake.startswith("-"):
        raise ConfigError(
            f"{whose}: nix = {text!r} names no attribute of a flake",
            hint='write FLAKE#ATTRIBUTE, for example ".#nixosConfigurations.web"',
        )
    if _SYSTEM.fullmatch(attribute):
        attribute += ".config.system.build.virshleImage"
    hit = _LOCAL.fullmatch(flake or ".")
    if hit:
        path = os.path.normpath(local(hit["path"]))
        scheme = hit["scheme"] or ""
        # Of a file: URL what comes after two slashes is a host.
        flake = f"{scheme}{'//' if scheme.endswith('file:') else ''}{path}{hit['query'] or ''}"
    return Reference(flake, attribute)


def look_up(nix: NixHost, wanted: Reference, progress: Progress, *, refresh: bool = False) -> Pin:
    """Which flake that is now. `refresh`: asked at its source, whatever Nix has kept of it. Raises HostError."""
    argv = (
        *(nix.program, "flake", "metadata", *nix.options, "--json", "--log-format", "internal-json", "-v"),
        *(("--refresh",) if refresh else ()),
        wanted.flake,
    )
    command = Command(argv, timeout=_LOOK_UP_TIMEOUT, env=nix.env)
    return _pin(wanted, followed(command, NixLog, progress, f"look up {wanted.flake}").stdout)


def _pin(wanted: Reference, text: str) -> Pin:
    try:
        found = json.loads(text)
        locked, url = found["locked"], found["url"]
        revision = locked.get("rev")
        # What was changed and not committed has a hash and no revision; Nix keeps a copy of it as it was built.
        dirty = locked["type"] in ("git", "hg") and revision is None
        return Pin(
            flake=found.get("originalUrl") or wanted.flake,
            locked=_copy(found) if dirty and found.get("path") else url,
            attribute=wanted.attribute,
            nar_hash=locked.get("narHash"),
            revision=revision,
            dirty=dirty,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(
            f"what nix says of {wanted.flake} is not what was expected: {type(error).__name__} {error}",
            details=[f"  {log.printable(line)}" for line in text.splitlines()[:5]],
            hint=f"look at it: nix flake metadata --json {wanted.flake}",
        ) from error


def _copy(found: dict[str, Any]) -> str:
    folder = found["locked"].get("dir")
    return f"path:{found['path']}" + (f"?dir={quote(folder)}" if folder else "")
