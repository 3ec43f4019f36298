"""GC roots: links to what was built, which Nix knows by their paths and looks at from its own folder."""

from __future__ import annotations

import os
from pathlib import Path

from virshle.exec import Command
from virshle.nix.host import NixHost
from virshle.plan import Run


def is_root(link: Path) -> bool:
    """Whether Nix keeps what the link leads to because of it: not after its folder was moved. True where that is not to
    be seen."""
    try:
        mine = link.lstat()
        # What --add-root leaves: STATE/gcroots/auto/HASH, a link to the link (nix-store(1); Nix: addIndirectRoot).
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
    """Of the Nix whose store that is in."""
    told = os.environ.get("NIX_STATE_DIR")
    return Path(told) if told else store_path.parent.parent / "var/nix"


def add_root(nix: NixHost, link: Path, store_path: Path) -> Run:
    """Where the store path is there. The link may be there already."""
    program = str(Path(nix.program).with_name("nix-store"))
    argv = (program, "--realise", str(store_path), "--add-root", str(link), "--indirect")
    return Run("have Nix keep it: its link was moved", Command(argv, env=nix.env))
