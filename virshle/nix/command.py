"""nix's command lines, as data. Each build has one reference: nix 2.8 returns several results in another order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from virshle import exec as host
from virshle.errors import HostError
from virshle.exec import Command
from virshle.nix.host import NixHost
from virshle.nix.log import NixLog
from virshle.plan import Progress, Run, Step, followed

BUILD_TIMEOUT = 6 * 3600.0
Words = tuple[str, ...]
"""The last words of a `nix build`: they say what to build."""


def flake_words(installable: str) -> Words:
    """FLAKE#ATTRIBUTE."""
    return (installable,)


def file_words(file: Path, arguments: Mapping[str, str]) -> Words:
    """A Nix file with a function whose arguments are strings."""
    return ("--file", str(file), *(word for pair in arguments.items() for word in ("--argstr", *pair)))


def _command(nix: NixHost, words: Words, *, offline: bool) -> Command:
    argv = (
        nix.program,
        "build",
        *nix.options,
        # With the evaluation cache, the second try of a failing attribute would give another, wrong error.
        *("--option", "eval-cache", "false"),
        *("--log-format", "internal-json", "-v"),
        *(("--option", "substituters", "") if offline else ()),
        *words,
    )
    return Command(argv, timeout=BUILD_TIMEOUT, env=nix.env)


def build(
    nix: NixHost, what: Words, link: Path, *, why: str, offline: bool = False, undo: tuple[Step, ...] = ()
) -> Run:
    """A build. `link` becomes the GC root and leads to the result. `offline`: ask no binary cache."""
    return Run(why, _command(nix, ("--out-link", str(link), *what), offline=offline), undo, follow=NixLog)


def would_build(nix: NixHost, what: Words, progress: Progress, *, title: str) -> str:
    """The store path that a build would give now. Nix only evaluates it and builds nothing. Raises HostError."""
    # Offline: it does not matter what a binary cache has.
    dry = _command(nix, ("--dry-run", "--json", "--no-link", *what), offline=True)
    told = followed(dry, NixLog, progress, title).stdout
    try:
        outputs = json.loads(told)[0]["outputs"]
        return str(outputs.get("out") or next(iter(outputs.values())))
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise HostError(
            f"cannot find out what nix would build: {type(error).__name__} {error}", hint=f"run it: {dry.shell()}"
        ) from error


def deriver(nix: NixHost, store_path: Path) -> str | None:
    """The derivation that built a store path, if Nix still knows it."""
    argv = (str(Path(nix.program).with_name("nix-store")), "--query", "--deriver", str(store_path))
    found = host.run(Command(argv, env=nix.env), check=False)
    path = found.stdout.strip()
    return path if found.code == 0 and path.endswith(".drv") else None
