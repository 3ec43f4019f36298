"""Hints for the errors of Nix. The words of an error differ between versions of Nix (2.8 to 2.36 were read). If the
words are known, there is a hint. What Nix said is always shown."""

from __future__ import annotations

import re
from collections.abc import Iterable

_HINTS = (
    (
        r"virshleImage' missing|does not provide attribute '[^']*virshleImage'",
        "add virshle's guest module to it: modules = [ virshle.nixosModules.guest ... ]",
    ),
    (r"does not provide attribute", "list the attributes that it has: nix flake show FLAKE"),
    (
        r"is not a derivation|to be a derivation or path",
        "name an attribute that is a package: nix flake show FLAKE lists them",
    ),
    (
        r"does not have (?:wanted )?outputs? 'out'",
        'an image must be the output `out` of its derivation: nix = "FLAKE#ATTRIBUTE.out"',
    ),
    (r"is not owned by current user|dubious ownership", "git config --global --add safe.directory FOLDER"),
    (r"is not tracked by Git|not exist in Git repository", "Nix sees only files that git tracks: run git add on it"),
    (
        r"does not contain a '?/?flake\.nix'?|could not find a flake\.nix",
        "check the flake reference; in a git repository Nix sees only files that git tracks: git add flake.nix",
    ),
    (
        r"updating the flake input[\s\S]*cannot find flake '",
        "write the full reference of the input in flake.nix: newer Nix does not look up inputs in your registries",
    ),
    (r"cannot find flake '|is not a valid URL|unrecognised flake|not an absolute path", "check the flake reference"),
    (
        r"cannot write modified lock file|requires lock file changes",
        "lock its inputs in its own folder (nix flake lock), and commit flake.lock",
    ),
    (
        r"hash mismatch|attribute mismatch in input",
        "the fetched file is not the pinned one: find out why; to pin the new file, write the hash that Nix got",
    ),
    (
        r"(?:(?:(?<!I am )a|Required system:) '[^']+' with|Required) features:? \{[^}]*\bkvm\b",
        "this build boots a VM: if /dev/kvm works, add to /etc/nix/nix.conf: extra-system-features = kvm",
    ),
    (
        r"experimental (?:Nix )?feature '[^']+' is disabled",
        "add to /etc/nix/nix.conf: extra-experimental-features = nix-command flakes",
    ),
    (
        r"No space left on device|database or disk is full|ENOSPC",
        "free some space: df -h /nix/store; nix-collect-garbage removes store paths that nothing uses",
    ),
    (
        r"Couldn'?t resolve host|Could not resolve host|Couldn'?t connect|Could not connect|Connection refused"
        r"|Network is unreachable|Timeout was reached|Temporary failure in name resolution",
        "the network does not reach it: check the network, or name your proxy: export https_proxy=...",
    ),
    (r"unable to download", "check the flake reference, and that you may read it (access-tokens in nix.conf)"),
    (
        r"not a trusted user|restricted setting|lacks a (?:valid )?signature",
        "the nix daemon does not trust you: as root, add your name to trusted-users in /etc/nix/nix.conf, then: "
        "systemctl restart nix-daemon",
    ),
    (r"cannot connect to (?:daemon|socket)", "start the nix daemon: systemctl start nix-daemon"),
    (
        r"is required to build|Required (?:system|features):",
        "build it on such a machine, or name such a machine in /etc/nix/machines",
    ),
    (r"No such file or directory|does not exist", "check the paths in the error"),
)
_KNOWN = tuple((re.compile(pattern, re.IGNORECASE), hint) for pattern, hint in _HINTS)


def hint_for(errors: Iterable[str], warnings: Iterable[str] = ()) -> str:
    """The hint for the errors. The first known cause in the list counts; the most specific causes come first. Empty if
    no cause is known."""
    for lines in ("\n".join(errors), "\n".join(warnings)):
        for pattern, hint in _KNOWN:
            if pattern.search(lines):
                return hint
    return ""
