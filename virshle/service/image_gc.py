"""Images are let go of when nothing names them and no VM was made of them."""

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
"""What a build leaves that failed."""


@dataclass(frozen=True)
class Collected:
    gone: list[str]
    kept: dict[str, str]
    """Images that no template names here, and why they stay."""


def collect(node: Node) -> Collected:
    """Lets go of what was built and is named by no template any more, of no configuration that is noted. A dry run
    says how large each is.

    Of an image that VMs were made of `v script` copies their disks, so it stays as long as they do.
    """
    done = Collected([], {})
    tidy_images(node)
    unnamed, why = _unnamed(node), _reasons(node, elsewhere(node))
    with node.apply() as apply:
        # Whoever clones from one or builds it holds its lock, and may have made a VM of it meanwhile.
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
    """Why an image stays that no template names here, as things are now; None where it need not."""
    users = used_by(node)

    def why(name: str) -> str | None:
        if vms := users.get(name):
            return f"{', '.join(vms)} {'was' if len(vms) == 1 else 'were'} made of it"
        return others.names(name)

    return why


def _unnamed(node: Node) -> list[str]:
    """Ours are those that were built here, or were to be: a folder with our link, or with nothing that is not ours."""
    folders = node.layout.images
    there = list(folders.iterdir()) if folders.is_dir() else []
    ours = {path.name for path in there if not path.name.startswith(".") and _is_ours(path)}
    # What was imported could not be made again.
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
