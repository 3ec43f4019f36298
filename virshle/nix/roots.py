"""GC roots: links to store paths. Nix has a link to each of them in its own folder, and so knows them by their path."""

from __future__ import annotations

import os
from pathlib import Path

from virshle.exec import Command
from virshle.nix.host import NixHost
from virshle.plan import Run


def is_root(link: Path) -> bool:
    """True if the link protects its store path from Nix's garbage collection. It does not after its folder was moved.
    Also true if that cannot be seen."""
    try:
        mine = link.lstat()
        # --add-root makes STATE/gcroots/auto/HASH, a link to the link (nix-store(1); Nix: addIndirectRoot).
        roots = list(_state(link.readlink()).joinpath("gcroots/auto").iterdir())
    except OSError:
        return True
    return any(_is_link_to(root, mine) for root in roots)


def _is_link_to(root: Path, link: os.stat_result) -> bool:
    try:
        return os.path.samestat(root.readlink().lstat(), link)
    except OSError:
        return False


def _state(store_path: Path) -> Path:
    """The state folder of the Nix whose store has the store path."""
    told = os.environ.get("NIX_STATE_DIR")
    return Path(told) if told else store_path.parent.parent / "var/nix"


def add_root(nix: NixHost, link: Path, store_path: Path) -> Run:
    """Makes the link a GC root. The store path must exist. The link may exist already."""
    program = str(Path(nix.program).with_name("nix-store"))
    argv = (program, "--realise", str(store_path), "--add-root", str(link), "--indirect")
    return Run("make Nix keep it: its link was moved", Command(argv, env=nix.env))
