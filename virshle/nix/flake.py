"""Flake references: their folder, their attribute, and the exact flake that Nix finds for them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from virshle import log
from virshle.errors import ConfigError, HostError
from virshle.exec import Command, run, spawn_ok
from virshle.model.vm import Pin
from virshle.nix.host import NixHost
from virshle.nix.log import NixLog
from virshle.plan import Progress, followed

_LOOK_UP_TIMEOUT = 3600.0
_SCHEME = r"(?P<scheme>(?:path|(?:git|hg)\+file):)"
# A name without a scheme is an entry of the flake registry, not a folder.
_LOCAL = re.compile(rf"(?:{_SCHEME}|(?=~|\.\.?(?:[/?]|$)|/))(?://(?=/))?(?P<path>(?!//)[^?]*)(?P<query>\?.*)?")
_ODD = re.compile(r"[^\w.~/+=,:@!$&'()*;-]", re.ASCII)
"""A URL cannot have these characters unencoded (RFC 3986, pchar), and Nix reads a flake's path as a part of a URL."""
_DECODES = (2, 26)
"""From this version on, Nix reads %20 in `path:` as a space: 2.26 does, 2.18 did not."""
_SYSTEM = re.compile(r'nixosConfigurations\.("[^"]+"|[^."^]+)')


@dataclass(frozen=True)
class Reference:
    flake: str
    """Absolute if it is a folder of this host. Then its characters are written as in the folder's name, not encoded."""
    attribute: str

    def __str__(self) -> str:
        return f"{self.flake}#{self.attribute}"


def reference(text: str, local: Callable[[str], Path], *, whose: str) -> Reference:
    """Reads `FLAKE#ATTRIBUTE`. The attribute of a NixOS configuration means the image of that configuration. `local`
    makes a path absolute. `whose` begins the error's message. Raises ConfigError."""
    flake, _, attribute = text.partition("#")
    if not attribute or flake.startswith("-"):
        raise ConfigError(
            f"{whose}: nix = {text!r} names no attribute of a flake",
            hint='write FLAKE#ATTRIBUTE, for example ".#nixosConfigurations.web"',
        )
    if _SYSTEM.fullmatch(attribute):
        attribute += ".config.system.build.virshleImage"
    hit = _LOCAL.fullmatch(flake or ".")
    if re.search(r"\s", attribute + (hit["query"] or "" if hit else flake)):
        raise ConfigError(
            f"{whose}: nix = {text!r} has a space where no space is allowed",
            hint="only the path of a folder may have spaces: ./FOLDER#ATTRIBUTE",
        )
    if hit:
        scheme, path = hit["scheme"] or "", hit["path"]
        if scheme and not _ODD.search(path.replace("%", "")):
            path = unquote(path)
        flake = _joined(scheme, os.path.normpath(local(path)), hit["query"] or "")
    return Reference(flake, attribute)


def _joined(scheme: str, path: str, query: str) -> str:
    # In a file: URL, the text after two slashes is a host, so the path needs two more in front.
    return f"{scheme}{'//' if scheme.endswith('file:') else ''}{path}{query}"


def look_up(nix: NixHost, wanted: Reference, progress: Progress, *, refresh: bool = False) -> Pin:
    """The exact flake that `wanted` names now. `refresh`: ask its source even if Nix has it in its cache.

    Raises HostError."""
    argv = (
        *(nix.program, "flake", "metadata", *nix.options, "--json", "--log-format", "internal-json", "-v"),
        *(("--refresh",) if refresh else ()),
        asked := _for_nix(nix, wanted.flake),
    )
    command = Command(argv, timeout=_LOOK_UP_TIMEOUT, env=nix.env)
    return _pin(nix, wanted, asked, followed(command, NixLog, progress, f"look up {wanted.flake}").stdout)


def _for_nix(nix: NixHost, flake: str) -> str:
    """The reference in the form that Nix reads, if the path has characters that a URL cannot have. Raises HostError."""
    hit = _LOCAL.fullmatch(flake)
    if hit is None or not _ODD.search(hit["path"]):
        return flake
    scheme, path, query = hit["scheme"] or "path:", Path(hit["path"]), hit["query"] or ""
    top = next((folder for folder in (path, *path.parents) if (folder / ".git").exists()), None)
    if hit["scheme"] is None and top is not None:
        # Nix does the same with a path that it can read.
        scheme, folder = "git+file:", path.relative_to(top)
        path, query = top, query or (f"?dir={quote(str(folder))}" if folder.parts else "")
    elif scheme == "path:" and nix.version < _DECODES:
        # Nix would make the same copy of such a flake, and name it "source" too.
        argv = (nix.program, "store", "add-path", *nix.options, "--name", "source", str(path))
        return _joined(scheme, run(Command(argv, timeout=_LOOK_UP_TIMEOUT, env=nix.env)).stdout.strip(), query)
    return _joined(scheme, quote(str(path)), query)


def _pin(nix: NixHost, wanted: Reference, asked: str, text: str) -> Pin:
    try:
        found = json.loads(text)
        locked, url = found["locked"], found["url"]
        revision = locked.get("rev")
        # A flake with uncommitted changes has a hash and no revision. Nix keeps a copy of the flake that it built.
        dirty = locked["type"] in ("git", "hg") and revision is None
        return Pin(
            flake=(found.get("originalUrl") if asked == wanted.flake else None) or wanted.flake,
            locked=(dirty and _copy(nix, found)) or url,
            attribute=wanted.attribute,
            nar_hash=locked.get("narHash"),
            revision=revision,
            dirty=dirty,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(
            f"nix gave an unexpected answer about {wanted.flake}: {type(error).__name__} {error}",
            details=[f"  {log.printable(line)}" for line in text.splitlines()[:5]],
            hint=f"look at the answer: nix flake metadata --json {wanted.flake}",
        ) from error


def _copy(nix: NixHost, found: dict[str, Any]) -> str | None:
    """A reference to Nix's copy of the flake. None if Nix kept no copy, or if the flake is in a folder of the copy and
    Nix cannot read that: 2.8 knows no `dir` for `path:`."""
    if not found.get("path"):
        return None
    copy, folder = f"path:{found['path']}", found["locked"].get("dir")
    if not folder:
        return copy
    copy += f"?dir={quote(folder)}"
    argv = (nix.program, "flake", "metadata", *nix.options, "--json", copy)
    return copy if spawn_ok(Command(argv, timeout=_LOOK_UP_TIMEOUT, env=nix.env)) else None
