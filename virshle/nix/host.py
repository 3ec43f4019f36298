"""Finds the nix of this host, and the store that its builds go to."""

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
    """How virshle calls nix on this host."""

    program: str
    version: tuple[int, ...]
    store: str
    """The kind of the store, as text for people."""
    env: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


def find_nix(private: Path) -> NixHost:
    """`private`: the folder for our own store. It is used if we cannot write to /nix and there is no daemon.

    Raises ConfigError, which says what to do, if there is no nix or if it is too old.
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
        # Without the build users of the daemon, root builds as root.
        return NixHost(program, version, "/nix/store", {}, (*options, *_without_group()))
    if os.access("/nix/store", os.W_OK) and os.access("/nix/var/nix/db", os.W_OK):
        return NixHost(program, version, "/nix/store", {}, options)
    folders = {"STORE": "store", "STATE": "var/nix", "LOG": "var/log/nix", "CONF": "etc/nix"}
    env = {f"NIX_{name}_DIR": str(private / folder) for name, folder in folders.items()}
    return NixHost(program, version, f"{private} (no nix daemon, and /nix is not writable)", env, options)


def _version(text: str) -> tuple[int, ...]:
    hit = re.search(r"(\d+(?:\.\d+)+)", text)
    return tuple(int(part) for part in hit[1].split(".")) if hit else (0,)


def _sandbox() -> tuple[str, ...]:
    """Turns the sandbox off if it cannot work, as in many containers. Otherwise nix would not build at all."""
    if find_program("unshare") is None or spawn_ok(Command(("unshare", "--user", "true"))):
        return ()
    log.warn("nix builds without its sandbox: this machine does not allow user namespaces")
    return ("--option", "sandbox", "false")


def _without_group() -> tuple[str, ...]:
    """By default, root's nix needs the group nixbld. Packages without the daemon do not create it, so turn that off."""
    try:
        grp.getgrnam("nixbld")
    except KeyError:
        return ("--option", "build-users-group", "")
    return ()
