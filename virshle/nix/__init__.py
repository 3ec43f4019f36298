"""The nix command: where its store is, its command lines (pure), and its own log as progress."""

from virshle.nix.command import Words, build, deriver, file_words, flake_words, would_build
from virshle.nix.flake import Reference, look_up, reference
from virshle.nix.host import NixHost, find_nix
from virshle.nix.log import NixLog

__all__ = [
    "NixHost",
    "NixLog",
    "Reference",
    "Words",
    "build",
    "deriver",
    "file_words",
    "find_nix",
    "flake_words",
    "look_up",
    "reference",
    "would_build",
]
