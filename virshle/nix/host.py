"""Which nix is there, and which store its builds go to."""

from __future__ import annotations

import grp
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from virshle import log
from virshle.errors import ConfigError
from virshle.exec import Command, find_program, run, spawn_ok
from virshle.exec.run import missing

_OLDEST = (2, 4)
_DAEMON = Path("/nix/var/nix/daemon-socket/socket")


@dataclass(frozen=True)
class NixHost:
    """How nix is called on this host."""

    program: str
    version: tuple[int, ...]
    store: str
    """What kind of store, for people."""
    env: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


def find_nix(private: Path) -> NixHost:
    """`private`: the folder for a store of our own, where /nix may not be written and no daemon does it.

    Raises ConfigError with the remedy where there is none, or one that is too old.
    """
    program = find_program("nix")
    if program is None:
        raise missing("nix")
    version = _version(run(Command((program, "--version"), timeout=20)).stdout)
    if version < _OLDEST:
        raise ConfigError(
            f"nix {'.'.join(map(str, version))} is too old: it cannot build flakes",
            hint=f"install nix {'.'.join(map(str, _OLDEST))} or newer",
        )
    options: tuple[str, ...] = ("--extra-experimental-features", "nix-command flakes")
    if _DAEMON.exists() and os.access(_DAEMON, os.W_OK):
        return NixHost(program, version, "the nix daemon", {}, options)
    options += _sandbox()
    if os.geteuid() == 0:
        # Without the daemon's build users root builds as itself.
        return NixHost(program, version, "/nix/store", {}, (*options, *_without_group()))
    if os.access("/nix/store", os.W_OK) and os.access("/nix/var/nix/db", os.W_OK):
        return NixHost(program, version, "/nix/store", {}, options)
    folders = {"STORE": "store", "STATE": "var/nix", "LOG": "var/log/nix", "CONF": "etc/nix"}
    env = {f"NIX_{name}_DIR": str(private / folder) for name, folder in folders.items()}
    return NixHost(program, version, f"{private} (neither a nix daemon nor /nix is ours to use)", env, options)


def _version(text: str) -> tuple[int, ...]:
    hit = re.search(r"(\d+(?:\.\d+)+)", text)
    return tuple(int(part) for part in hit[1].split(".")) if hit else (0,)


def _sandbox() -> tuple[str, ...]:
    """Off where it cannot be had, as in many containers: nix would refuse to build at all."""
    if find_program("unshare") is None or spawn_ok(Command(("unshare", "--user", "true"))):
        return ()
    log.warn("nix builds without its sandbox: this machine allows no user namespaces")
    return ("--option", "sandbox", "false")


def _without_group() -> tuple[str, ...]:
    """Root's nix wants the group nixbld unless told otherwise; packages without the daemon do not make it."""
    try:
        grp.getgrnam("nixbld")
    except KeyError:
        return ("--option", "build-users-group", "")
    return ()
