"""The nix command: its store, its command lines (pure functions), and its log as progress."""

from virshle.nix.command import Words, build, deriver, file_words, flake_words, would_build
from virshle.nix.flake import Reference, look_up, reference
from virshle.nix.host import NixHost, find_nix
from virshle.nix.log import NixLog
from virshle.nix.roots import add_root, is_root

__all__ = [
    "NixHost",
    "NixLog",
    "Reference",
    "Words",
    "add_root",
    "build",
    "deriver",
    "file_words",
    "find_nix",
    "flake_words",
    "is_root",
    "look_up",
    "reference",
    "would_build",
]
