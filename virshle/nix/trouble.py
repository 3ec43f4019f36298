"""What mends what Nix says went wrong. Its words differ from version to version (read of 2.8 to 2.36): a hint is given
where they are known, and what Nix said is shown in any case."""

from __future__ import annotations

import re
from collections.abc import Iterable

_HINTS = (
    (
        r"virshleImage' missing|does not provide attribute '[^']*virshleImage'",
        "add virshle's guest module to it: modules = [ virshle.nixosModules.guest ... ]",
    ),
    (r"does not provide attribute", "list what it has: nix flake show FLAKE"),
    (
        r"is not a derivation|to be a derivation or path",
        "name an attribute that is a package: nix flake show FLAKE lists them",
    ),
    (
        r"does not have (?:wanted )?outputs? 'out'",
        'an image is the output `out` of what builds it: nix = "FLAKE#ATTRIBUTE.out"',
    ),
    (r"is not owned by current user|dubious ownership", "git config --global --add safe.directory FOLDER"),
    (r"is not tracked by Git|not exist in Git repository", "Nix sees only what git tracks: git add it"),
    (
        r"does not contain a '?/?flake\.nix'?|could not find a flake\.nix",
        "check the flake reference; in a git repository Nix sees only what git tracks: git add flake.nix",
    ),
    (
        r"updating the flake input[\s\S]*cannot find flake '",
        "write in flake.nix what the name stands for: newer Nix asks none of your registries for inputs",
    ),
    (r"cannot find flake '|is not a valid URL|unrecognised flake|not an absolute path", "check the flake reference"),
    (
        r"cannot write modified lock file|requires lock file changes",
        "lock its inputs where it is kept (nix flake lock), and commit flake.lock",
    ),
    (
        r"hash mismatch|attribute mismatch in input",
        "what was fetched is not what was pinned: find out why; to pin what it is now, write the hash that Nix got",
    ),
    (
        r"(?:(?:(?<!I am )a|Required system:) '[^']+' with|Required) features:? \{[^}]*\bkvm\b",
        "this build boots a VM: where /dev/kvm works add to /etc/nix/nix.conf: extra-system-features = kvm",
    ),
    (
        r"experimental (?:Nix )?feature '[^']+' is disabled",
        "add to /etc/nix/nix.conf: extra-experimental-features = nix-command flakes",
    ),
    (
        r"No space left on device|database or disk is full|ENOSPC",
        "free some space: df -h /nix/store; nix-collect-garbage lets go of what nothing uses",
    ),
    (
        r"Couldn'?t resolve host|Could not resolve host|Couldn'?t connect|Could not connect|Connection refused"
        r"|Network is unreachable|Timeout was reached|Temporary failure in name resolution",
        "there is no way to it: mend the network, or name your proxy: export https_proxy=...",
    ),
    (r"unable to download", "check the flake reference, and who may read it (access-tokens in nix.conf)"),
    (
        r"not a trusted user|restricted setting|lacks a (?:valid )?signature",
        "the nix daemon does not trust you: as root, add your name to trusted-users in /etc/nix/nix.conf, then: "
        "systemctl restart nix-daemon",
    ),
    (r"cannot connect to (?:daemon|socket)", "is the daemon there? systemctl start nix-daemon"),
    (
        r"is required to build|Required (?:system|features):",
        "build it on such a machine, or name one in /etc/nix/machines",
    ),
    (r"No such file or directory|does not exist", "check the paths that it names"),
)
_KNOWN = tuple((re.compile(pattern, re.IGNORECASE), hint) for pattern, hint in _HINTS)


def hint_for(errors: Iterable[str], warnings: Iterable[str] = ()) -> str:
    """The line that mends the first cause that is known, in the order of how much it tells; empty for none."""
    for lines in ("\n".join(errors), "\n".join(warnings)):
        for pattern, hint in _KNOWN:
            if pattern.search(lines):
                return hint
    return ""
