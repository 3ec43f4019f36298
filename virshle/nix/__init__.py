"""The nix command: where its store is, its command lines (pure), and its own log as progress."""

from virshle.nix.command import build_expression_file, build_flake
from virshle.nix.host import NixHost, find_nix
from virshle.nix.log import NixLog

__all__ = [
    "NixHost",
    "NixLog",
    "build_expression_file",
    "build_flake",
    "find_nix",
]
