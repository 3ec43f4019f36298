"""Releases images that no configuration names and that no VM was created from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from virshle.errors import VirshleError
from virshle.image import built
from virshle.model.units import format_size
from virshle.plan import Plan
from virshle.service.image import hold_images
from virshle.service.image_import import removal, tidy_images
from virshle.service.image_list import sizes, used_by
from virshle.service.node import Node
from virshle.service.share import Elsewhere, elsewhere, forget, images_named
from virshle.store.layout import image_link

_MADE = {"image.json", "parts"}
"""What a failed build leaves."""


@dataclass(frozen=True)
class Collected:
    gone: list[str]
    kept: dict[str, str]
    """Images that no template of this configuration names, and why they stay."""


def collect(node: Node) -> Collected:
    """Releases built images that no template names any more, in any configuration that is noted. A dry run prints the
    size of each.

    An image stays as long as there are VMs that were created from it, because `v script` copies their disks from it.
    """
    done = Collected([], {})
    tidy_images(node)
    unnamed, why = _unnamed(node), _reasons(node, elsewhere(node))
    with node.apply() as apply:
        # A process that clones an image or builds it holds its lock, and may have created a VM from it meanwhile.
        held = hold_images(node, apply, [name for name in unnamed if why(name) is None])
        others = elsewhere(node)
        why = _reasons(node, others)
        apply(Plan("config", list(forget(others.gone))))
        for name in unnamed:
            if (reason := why(name)) is not None:
                done.kept[name] = reason
            elif name in held:
                if node.dry_run is not None:
                    node.dry_run(f"# {name}: {_described(name, node.layout.image(name))}")
                apply(Plan(name, removal(node, name)))
                done.gone.append(name)
        apply.commit()
    return done


def _reasons(node: Node, others: Elsewhere) -> Callable[[str], str | None]:
    """Why an image must stay now, although no template of this configuration names it; None if it need not stay."""
    users = used_by(node)

    def why(name: str) -> str | None:
        if vms := users.get(name):
            return f"{', '.join(vms)} {'was' if len(vms) == 1 else 'were'} created from it"
        return others.names(name)

    return why


def _unnamed(node: Node) -> list[str]:
    """Only images that were built here, or that a build began: a folder with our link, or with only our files."""
    folders = node.layout.images
    there = list(folders.iterdir()) if folders.is_dir() else []
    ours = {path.name for path in there if not path.name.startswith(".") and _is_ours(path)}
    # An imported image could not be built again.
    return sorted(name for name in ours - images_named(node.config) if not node.paths.imported(name).exists())


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir():
        return False
    return image_link(path).is_symlink() or {one.name for one in path.iterdir()} <= _MADE


def _described(name: str, folder: Path) -> str:
    try:
        found = built(name, folder)
        if found is None:
            return "its store path is gone"
        return f"{format_size(sizes(found.disk)['size'])} on disk, {found.store_path}"
    except VirshleError as error:
        return error.message
