"""nix's command lines, as data. One reference per build: nix 2.8 returns several in an order of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from virshle.exec import Command
from virshle.nix.host import NixHost
from virshle.nix.log import NixLog
from virshle.plan import Run

BUILD_TIMEOUT = 6 * 3600.0


def _build(nix: NixHost, what: tuple[str, ...], link: Path, why: str, *, offline: bool = False) -> Run:
    argv = (
        nix.program,
        "build",
        *nix.options,
        # The evaluation cache would answer a second try of a failing attribute with another, wrong error.
        *("--option", "eval-cache", "false"),
        *("--log-format", "internal-json", "-v"),
        *(("--option", "substituters", "") if offline else ()),
        *("--out-link", str(link)),
        *what,
    )
    return Run(why, Command(argv, timeout=BUILD_TIMEOUT, env=nix.env), follow=NixLog)


def build_flake(nix: NixHost, reference: str, link: Path, *, why: str) -> Run:
    """`reference`: FLAKE#ATTRIBUTE. The link is the GC root, and where the result is found."""
    return _build(nix, (reference,), link, why)


def build_expression_file(
    nix: NixHost, file: Path, arguments: Mapping[str, str], link: Path, *, why: str, offline: bool = False
) -> Run:
    """A file with a function of strings. `offline`: ask no binary cache."""
    words = [word for name, value in arguments.items() for word in ("--argstr", name, value)]
    return _build(nix, ("--file", str(file), *words), link, why, offline=offline)
