"""Disk images of other systems: copied or converted into the state folder, and images there without configuration.

An image is made in `image/.new-NAME` and comes to be when that is renamed; it ceases to be when it is renamed to
`image/.del-NAME`. What an interrupted command left of either, the next one of these clears.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from virshle import log
from virshle.disk import (
    check_bootable,
    check_image,
    clone,
    converted_size,
    from_qcow2,
    is_qcow2,
    need_bytes,
    need_space,
)
from virshle.errors import ConflictError, UsageError
from virshle.fs import full, try_lock
from virshle.image import Record
from virshle.image.found import record_file
from virshle.model.names import check_file_name
from virshle.plan import Apply, Plan, Step, Write, run
from virshle.service.image import hold_images
from virshle.service.image_list import used_by
from virshle.service.node import Node
from virshle.service.share import Elsewhere, elsewhere
from virshle.store.change import clear, let_go
from virshle.store.read import unfinished_images


def import_image(node: Node, file: Path, name: str | None = None) -> str:
    """Its name, by default the file's without its ending. Raises UsageError, NotFoundError, ConfigError for what is no
    whole disk image, ConflictError for a name that is taken, HostError; then nothing of it is left."""
    name = _checked(name if name is not None else _stem(file))
    file = full(file)
    _check_free(node, name)
    convert = is_qcow2(file)
    if not convert:
        check_image(file)
        check_bootable(file)
    node.folders()
    tidy_images(node)
    staged = node.layout.images / f".new-{name}"
    with node.apply() as apply:
        _stage(node, apply, name, staged)
        _check_free(node, name)
        disk = staged / node.paths.imported(name).name
        apply(Plan(name, _copy(node, file, disk, convert=convert)))
        if node.dry_run is None:
            check_image(disk)
            check_bootable(disk)
        apply(Plan(name, _commit(node, name, file, staged)))
        apply.commit()
    return name


def _stem(file: Path) -> str:
    return file.name.removesuffix(file.suffix) or file.name


def _checked(name: str) -> str:
    try:
        return check_file_name(name)
    except ValueError as error:
        raise UsageError(str(error), hint="choose another: --name NAME") from None


def _check_free(node: Node, name: str) -> None:
    """Raises ConflictError."""
    if name in node.config.images or node.paths.imported(name).exists():
        raise ConflictError(
            f"there is an image {name!r} already", hint=f"choose another: --name NAME; or first: v image delete {name}"
        )
    if node.layout.image(name).exists():
        raise ConflictError(
            f"something was built as image {name!r}, which no configuration names",
            hint="let go of it: v image gc; or choose another: --name NAME",
        )


def _stage(node: Node, apply: Apply, name: str, staged: Path) -> None:
    """Makes and holds the staging folder. Another import of that name is waited for."""
    remove = clear("remove what was begun", staged)
    while True:
        apply(Plan(name, [run("make the folder in which it is staged", "mkdir", "-p", staged)]))
        if node.hold(apply, staged):
            break
    apply.commit()
    # Only who holds it may remove it.
    empty = ("find", staged, "-mindepth", "1", "-delete")
    apply(Plan(name, [run("begin with an empty one", *empty, undo=[remove])]))


def _copy(node: Node, file: Path, disk: Path, *, convert: bool) -> list[Step]:
    """Raises HostError where there is no room for it."""
    if not convert:
        need_space(node.paths.state, [file], 1)
        return clone(file, disk, image=0, size=0)
    data = converted_size(file)
    need_bytes(node.paths.state, data)
    return from_qcow2(file, disk, data)


def _commit(node: Node, name: str, file: Path, staged: Path) -> list[Step]:
    disk = node.paths.imported(name)
    now = datetime.now(UTC).replace(microsecond=0)
    # For people: a name that is not UTF-8 cannot be in it as it is.
    record = Record(name=name, source=log.printable(str(file)), store_path=str(disk), built=now)
    to_disk = run("write all of it to the disk", "sync", "--file-system", node.layout.images, timeout=3600)
    return [
        Write("note what was imported", record_file(staged), record.model_dump_json(indent=2) + "\n"),
        to_disk,
        run("commit: the image is there, whole", "mv", "-T", staged, node.layout.image(name)),
        to_disk,
    ]


def delete_images(node: Node, names: Sequence[str], *, force: bool = False) -> None:
    """Raises NotFoundError, and ConflictError where a template names one or, without `force`, VMs were made of it or
    another configuration names it; then none was deleted."""
    names = sorted({*names})
    check_images_deletable(node, names, force=force)
    with node.apply() as apply:
        # Whoever clones from one or builds it holds its lock, and may have made a VM of it meanwhile, or let it go.
        held = hold_images(node, apply, names)
        if went := sorted({*names} - {*held}):
            raise ConflictError(f"somebody else deletes image {', '.join(went)}", hint="v image ls shows what there is")
        check_images_deletable(node, names, force=force)
        for name in names:
            apply(Plan(name, removal(node, name)))
        apply.commit()


def removal(node: Node, name: str) -> list[Step]:
    """For the holder of its lock. Interrupted anywhere, it is there whole or `tidy_images` does the rest."""
    folder, leaving = node.layout.image(name), node.layout.images / f".del-{name}"
    remove = clear("remove its files", leaving)
    return [remove, *let_go("image", folder, leaving), remove]


def check_images_deletable(node: Node, names: Sequence[str], *, force: bool = False) -> None:
    """Raises as `delete_images`."""
    others = Elsewhere() if force else elsewhere(node)
    for name in names:
        _check_one_deletable(node, name, others, force=force)


def _check_one_deletable(node: Node, name: str, others: Elsewhere, *, force: bool) -> None:
    if not node.layout.image(name).is_dir():
        image = node.config.image(name)
        what = f"is a file, {image.path}, and not virshle's" if image.path else "is not built"
        raise ConflictError(f"image {name!r} {what}: there is nothing to delete", hint="v image ls shows what there is")
    templates = [
        template.name for template in node.config.templates.values() for disk in template.disk if disk.image == name
    ]
    if templates:
        raise ConflictError(
            f"image {name!r} is named by template {', '.join(templates)}, and nothing was deleted",
            hint=f"take it out of {node.paths.config} first",
        )
    if other := others.names(name):
        raise ConflictError(
            f"image {name!r} is another project's too: {other}; nothing was deleted",
            hint=f"if that needs it no more: v image delete --force {name}",
        )
    if (vms := used_by(node).get(name)) and not force:
        raise ConflictError(
            f"VMs were made of image {name!r}: {', '.join(vms)}; nothing was deleted",
            hint=f"they have copies of their own, but `v script` has not: v image delete --force {name}",
        )


def tidy_images(node: Node) -> None:
    """Removes what interrupted commands left, where nobody works on it."""
    left = unfinished_images(node.layout)
    with ExitStack() as locks, node.apply() as apply:
        for folder in left:
            if node.dry_run is None and (lock := try_lock(folder)) is not None:
                locks.enter_context(lock)
                apply(Plan(folder.name[5:], [clear("remove what was left of it", folder)]))
        apply.commit()
