"""Import disk images of other systems: copy or convert them into the state folder, where they need no configuration.
Delete images.

An image is made in `image/.new-NAME`, and it exists when that folder has its own name. An image is deleted by renaming
its folder to `image/.del-NAME`. If a command is interrupted, the next `import` or `gc` removes both kinds of folders.
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
    """Returns its name, by default the file's name without its ending. Raises UsageError, NotFoundError, ConfigError if
    the file is not a complete disk image, ConflictError if the name is taken, HostError; then nothing of it is left."""
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
        raise UsageError(str(error), hint="choose another name: --name NAME") from None


def _check_free(node: Node, name: str) -> None:
    """Raises ConflictError."""
    if name in node.config.images or node.paths.imported(name).exists():
        raise ConflictError(
            f"there is an image {name!r} already",
            hint=f"choose another name: --name NAME; or first: v image delete {name}",
        )
    if node.layout.image(name).exists():
        raise ConflictError(
            f"image {name!r} was built already, although no configuration names it",
            hint="release it: v image gc; or choose another name: --name NAME",
        )


def _stage(node: Node, apply: Apply, name: str, staged: Path) -> None:
    """Makes and locks the staging folder. Waits while another import of that name runs."""
    remove = clear("remove the staging folder", staged)
    while True:
        apply(Plan(name, [run("make the folder in which it is staged", "mkdir", "-p", staged)]))
        if node.hold(apply, staged):
            break
    apply.commit()
    # Only the process that has the lock may remove it.
    empty = ("find", staged, "-mindepth", "1", "-delete")
    apply(Plan(name, [run("empty the staging folder", *empty, undo=[remove])]))


def _copy(node: Node, file: Path, disk: Path, *, convert: bool) -> list[Step]:
    """Raises HostError if there is not enough space."""
    if not convert:
        need_space(node.paths.state, [file], 1)
        return clone(file, disk, image=0, size=0)
    data = converted_size(file)
    need_bytes(node.paths.state, data)
    return from_qcow2(file, disk, data)


def _commit(node: Node, name: str, file: Path, staged: Path) -> list[Step]:
    disk = node.paths.imported(name)
    now = datetime.now(UTC).replace(microsecond=0)
    # Only for people to read: a name that is not UTF-8 cannot be stored unchanged.
    record = Record(name=name, source=log.printable(str(file)), store_path=str(disk), built=now)
    to_disk = run("write all of it to the disk", "sync", "--file-system", node.layout.images, timeout=3600)
    return [
        Write("note what was imported", record_file(staged), record.model_dump_json(indent=2) + "\n"),
        to_disk,
        run("commit: the image is there, whole", "mv", "-T", staged, node.layout.image(name)),
        to_disk,
    ]


def delete_images(node: Node, names: Sequence[str], *, force: bool = False) -> None:
    """Raises NotFoundError. Raises ConflictError if a template names one of them; without `force` also if VMs were
    created from it, or if another configuration names it. Then no image was deleted."""
    names = sorted({*names})
    check_images_deletable(node, names, force=force)
    with node.apply() as apply:
        # The processes that clone and build an image hold its lock: by now a VM may use it, or it may be gone.
        held = hold_images(node, apply, names)
        if went := sorted({*names} - {*held}):
            raise ConflictError(f"another command deletes image {', '.join(went)}", hint="v image ls lists the images")
        check_images_deletable(node, names, force=force)
        for name in names:
            apply(Plan(name, removal(node, name)))
        apply.commit()


def removal(node: Node, name: str) -> list[Step]:
    """The caller holds its lock. If it is interrupted, the image is still complete, or `tidy_images` does the rest."""
    folder, leaving = node.layout.image(name), node.layout.images / f".del-{name}"
    remove = clear("remove its files", leaving)
    return [remove, *let_go("image", folder, leaving), remove]


def check_images_deletable(node: Node, names: Sequence[str], *, force: bool = False) -> None:
    """Raises the same as `delete_images`."""
    others = Elsewhere() if force else elsewhere(node)
    for name in names:
        _check_one_deletable(node, name, others, force=force)


def _check_one_deletable(node: Node, name: str, others: Elsewhere, *, force: bool) -> None:
    if not node.layout.image(name).is_dir():
        image = node.config.image(name)
        what = f"is your own file {image.path}" if image.path else "is not built"
        raise ConflictError(f"image {name!r} {what}: there is nothing to delete", hint="v image ls lists the images")
    templates = [
        template.name for template in node.config.templates.values() for disk in template.disk if disk.image == name
    ]
    if templates:
        raise ConflictError(
            f"image {name!r} is named by template {', '.join(templates)}: nothing was deleted",
            hint=f"first, remove it from {node.paths.config}",
        )
    if other := others.names(name):
        raise ConflictError(
            f"another project uses image {name!r} too: {other}; nothing was deleted",
            hint=f"if that project does not need it any more: v image delete --force {name}",
        )
    if (vms := used_by(node).get(name)) and not force:
        raise ConflictError(
            f"VMs were created from image {name!r}: {', '.join(vms)}; nothing was deleted",
            hint=f"VMs have their own copies, but `v script` needs the image: v image delete --force {name}",
        )


def tidy_images(node: Node) -> None:
    """Removes what interrupted commands left, if no process works on it."""
    left = unfinished_images(node.layout)
    with ExitStack() as locks, node.apply() as apply:
        for folder in left:
            if node.dry_run is None and (lock := try_lock(folder)) is not None:
                locks.enter_context(lock)
                apply(Plan(folder.name[5:], [clear("remove what an interrupted command left", folder)]))
        apply.commit()
