"""The state of the images, read from their folders. Their sources are looked at only with `check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from virshle.config.schema import ImageConfig
from virshle.disk import check_image
from virshle.errors import VirshleError
from virshle.image import Record, built, read_record
from virshle.nix import would_build
from virshle.plan import Silent
from virshle.service.image import is_imported, nix_of
from virshle.service.node import Node
from virshle.service.recipe import recipe_now

Current = Literal["current", "outdated"]


def image_rows(node: Node, *, check: bool = False) -> list[dict[str, Any]]:
    """One row per image; sizes in bytes. Without `check` nothing is evaluated, and `current` is None."""
    users = used_by(node)
    return [
        {**image_row(node, image, check=check), "used_by": " ".join(users.get(name, [])) or None}
        for name, image in node.config.images.items()
    ]


def used_by(node: Node) -> dict[str, list[str]]:
    """For each image, the names of the VMs that were created from it."""
    users: dict[str, list[str]] = {}
    for entry in node.store.entries():
        if entry.summary and entry.summary.image:
            users.setdefault(entry.summary.image, []).append(entry.name)
    return users


def image_row(node: Node, image: ImageConfig, *, check: bool = False) -> dict[str, Any]:
    """One row. The column `problem` says what is wrong with the image."""
    row: dict[str, Any] = {"name": image.name, "built": False, "source": image.source}
    row |= dict.fromkeys(("size", "virtual", "revision", "locked", "current", "store_path", "when", "problem"))
    try:
        row |= _found(node, image)
        if check and row["store_path"]:
            row["current"] = current(node, image, row["store_path"])
    except VirshleError as error:
        row["problem"] = error.message
    return row


def _found(node: Node, image: ImageConfig) -> dict[str, Any]:
    folder = node.layout.image(image.name)
    if image.path is not None:
        row = {"built": True, **sizes(node.config.local(image.path))}
        record = read_record(folder) if is_imported(node, image.name) else None
        return row if record is None else row | {"source": record.source, "when": _when(record)}
    found = built(image.name, folder)
    if found is None:
        return {}
    row = {"built": True, "store_path": str(found.store_path), **sizes(found.disk)}
    record = read_record(folder)
    if record is None or record.store_path != str(found.store_path):
        return row
    row["when"] = _when(record)
    if record.pin is not None:
        row |= {"revision": record.pin.short, "locked": record.pin.installable}
    return row


def _when(record: Record) -> str:
    return record.built.strftime("%Y-%m-%d %H:%M")


def sizes(path: Path) -> dict[str, Any]:
    """The sizes of a raw image in bytes. Raises NotFoundError, ConfigError."""
    virtual = check_image(path)
    return {"size": path.stat().st_blocks * 512, "virtual": virtual}


def current(node: Node, image: ImageConfig, store_path: str) -> Current:
    """Says if a build now would give the same store path. A flake is not evaluated if it has not changed. Raises
    ConfigError, HostError."""
    nix = nix_of(node)
    now = recipe_now(node, image, nix)
    if now is None:
        return "outdated"
    record = read_record(node.layout.image(image.name))
    if now.pin is not None and record is not None and (record.pin, record.store_path) == (now.pin, store_path):
        return "current"
    title = f"evaluate image {image.name}"
    would = would_build(nix, now.words, node.progress or Silent(), title=title)
    return "current" if would == store_path else "outdated"
