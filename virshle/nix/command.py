"""nix's command lines, as data. One reference per build: nix 2.8 returns several in an order of its own."""

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
"""What is built: the end of a `nix build`."""


def flake_words(installable: str) -> Words:
    """FLAKE#ATTRIBUTE."""
    return (installable,)


def file_words(file: Path, arguments: Mapping[str, str]) -> Words:
    """A file with a function of strings."""
    return ("--file", str(file), *(word for pair in arguments.items() for word in ("--argstr", *pair)))


def _command(nix: NixHost, words: Words, *, offline: bool) -> Command:
    argv = (
        nix.program,
        "build",
        *nix.options,
        # The evaluation cache would answer a second try of a failing attribute with another, wrong error.
        *("--option", "eval-cache", "false"),
        *("--log-format", "internal-json", "-v"),
        *(("--option", "substituters", "") if offline else ()),
        *words,
    )
    return Command(argv, timeout=BUILD_TIMEOUT, env=nix.env)


def build(
    nix: NixHost, what: Words, link: Path, *, why: str, offline: bool = False, undo: tuple[Step, ...] = ()
) -> Run:
    """The link is the GC root, and where the result is found. `offline`: ask no binary cache."""
    return Run(why, _command(nix, ("--out-link", str(link), *what), offline=offline), undo, follow=NixLog)


def would_build(nix: NixHost, what: Words, progress: Progress, *, title: str) -> str:
    """The store path that a build would give now: evaluated, and nothing built or asked for. Raises HostError."""
    # No binary cache is asked what it has: that is not what is wanted to be known.
    dry = _command(nix, ("--dry-run", "--json", "--no-link", *what), offline=True)
    told = followed(dry, NixLog, progress, title).stdout
    try:
        outputs = json.loads(told)[0]["outputs"]
        return str(outputs.get("out") or next(iter(outputs.values())))
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise HostError(
            f"what nix would build is not known: {type(error).__name__} {error}", hint=f"run it: {dry.shell()}"
        ) from error


def deriver(nix: NixHost, store_path: Path) -> str | None:
    """The derivation that a store path was built by, where Nix knows it still."""
    argv = (str(Path(nix.program).with_name("nix-store")), "--query", "--deriver", str(store_path))
    found = host.run(Command(argv, env=nix.env), check=False)
    path = found.stdout.strip()
    return path if found.code == 0 and path.endswith(".drv") else None
