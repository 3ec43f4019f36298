"""Create VMs from a template: all of them or none. If v is killed between their commits, those with a commit stay."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from virshle import log
from virshle.config.schema import DiskTemplate, VmTemplate
from virshle.disk import blank, check_image, check_size, clone, need_space
from virshle.errors import ConfigError, ConflictError, UsageError
from virshle.fs import allow_locks, check_known, full
from virshle.model.names import check_name, invent_name
from virshle.model.vm import User, Vm
from virshle.plan import Plan, Step, run
from virshle.service.image import ensure_built, hold_images, image_source
from virshle.service.node import Entry, Node
from virshle.service.template import check_template
from virshle.store.astray import move_back
from virshle.store.change import claim, commit, stage, write_definition
from virshle.store.read import link_owner, links
from virshle.template import Identity, Source, define, disk_size
from virshle.userdata import UserData, key_file, make_key, personal_keys, read_key, read_user_data


@dataclass(frozen=True)
class Order:
    """What the user asks for. `name`: the VM's, or the first part of the names of several; None: v chooses a name."""

    template: str
    name: str | None = None
    count: int = 1
    user_data: Sequence[Path] = ()
    """TOML files with users, or a cloud-config."""


def create(node: Node, order: Order) -> list[Vm]:
    """Returns the new VMs. Raises ConfigError, NotFoundError, ConflictError, HostError; then no VM was created."""
    check_known()
    node.layout.check_state()
    node.layout.check_sockets()
    template = node.config.template(order.template)
    check_template(node, template)
    _check_names(node, order)
    data, warnings = read_user_data([full(path) for path in order.user_data])
    for warning in warnings:
        log.warn(warning)
    firmware = node.config.local(template.firmware) if template.firmware else None
    images = [disk.image for disk in template.disk if disk.image is not None]
    for image in images:
        ensure_built(node, image)
    with node.apply() as apply:
        hold_images(node, apply, images, shared=True)
        sources = [_source(node, disk) for disk in template.disk]
        _check_sizes(template, sources)
        _check_taken(data, sources[0])
        need_space(node.paths.state, _copied(sources), order.count)
        with node.registry() as entries:
            apply(Plan("key", make_key(node.layout.keys)))
            own = _own_key(node)
            given: dict[str, Any] = {
                "authorized_keys": list(dict.fromkeys([*own, *personal_keys()])),
                "users": [_entered_by(user, own) for user in data.users],
                "account": data.account,
                "cloud_config": data.cloud_config,
            }
            vms = [
                define(template, one, sources, firmware=firmware, **given) for one in _identities(node, order, entries)
            ]
            # Under the registry's lock: `tidy` removes a folder without a lock as abandoned.
            apply(*(_staged(node, vm, stage(node.layout, vm.uuid)) for vm in vms))
            allow_locks(len(vms))
            for vm in vms:
                node.hold(apply, node.layout.staged(vm.uuid), subject=vm.name)
            apply(*(_staged(node, vm, *claim(node.layout, vm.uuid, vm.name, vm.id)) for vm in vms))
        apply(*(_staged(node, vm, *_fill(node, vm, template, sources)) for vm in vms))
        apply(Plan("all", [_to_disk(node)]))
        apply(*(_staged(node, vm, commit(node.layout, vm.uuid)) for vm in vms))
        apply(Plan("all", [_to_disk(node)]))
        apply.commit()
    return vms


def _to_disk(node: Node) -> Step:
    """Writes everything to the disk: after a power cut, what exists now still exists."""
    return run("write all of it to the disk", "sync", "--file-system", node.layout.vms, timeout=3600)


def _copied(sources: Sequence[Source]) -> list[Path]:
    """The files that each VM gets a copy of."""
    files = [file for source in sources for file in (source.path, source.kernel, source.initrd) if file is not None]
    return [file for file in files if file.exists()]


def _check_names(node: Node, order: Order) -> None:
    """Refuses bad names before any work is done. A name that is taken but has no link is found later, under the
    registry's lock. Raises UsageError, ConflictError."""
    for name in _names(order) if order.name is not None else ():
        try:
            check_name(name)
        except ValueError as error:
            raise UsageError(str(error), hint="for example: web, db-2") from None
        owner = link_owner(node.layout.name(name))
        if owner is not None and (node.layout.vm(owner).exists() or node.store.astray(owner)):
            raise _taken(node, name)


def _taken(node: Node, name: str) -> ConflictError:
    owner = link_owner(node.layout.name(name))
    if owner is not None and (folder := node.store.astray(owner)):
        return ConflictError(
            f"{name!r} is the name of a VM whose folder was renamed: it is {folder} now",
            hint=f"choose another name; or move the folder back: {move_back(folder, node.layout.vm(owner))}",
        )
    if owner is not None and not node.layout.vm(owner).exists() and node.runs(owner):
        return ConflictError(
            f"{name!r} is the name of a VM that runs, though its folder {node.layout.vm(owner)} is gone",
            hint="choose another name; `v doctor` says where that folder is, if this can be found out",
        )
    hint = f"choose another name, or give none; to delete the old VM: v delete {name}"
    return ConflictError(f"there is a VM named {name!r} already", hint=hint)


def _names(order: Order) -> list[str]:
    assert order.name is not None
    return [order.name] if order.count == 1 else [f"{order.name}-{index}" for index in range(1, order.count + 1)]


def _check_taken(data: UserData, source: Source) -> None:
    """Raises ConfigError if it is known that the guest cannot use the user data."""
    given = [word for word, value in (("users", data.users), ("cloud-config", data.cloud_config)) if value]
    if not given:
        return
    image = f"image {source.image!r}" if source.image else source.described
    if source.takes is None:
        log.note(f"{' and '.join(given)}: only cloud-init in {image} applies this; without cloud-init it has no effect")
        if data.cloud_config:
            log.note("v does not check the YAML of the cloud-config; to check it in the VM: cloud-init status --long")
    elif "cloud-config" in given and "cloud-config" not in source.takes:
        raise ConfigError(
            f"{image} has no cloud-init, and cannot use a cloud-config",
            hint="use an image with cloud-init, for example a cloud image: v image import FILE; or give only users",
        )
    elif "users" in given and "users" not in source.takes:
        raise ConfigError(
            f"{image} cannot create users",
            hint=f"if an older virshle built it: v image build {source.image}; else use another image",
        )


def _entered_by(user: User, own: Sequence[str]) -> User:
    """Gives the user virshle's key too, so that `v ssh -l USER` works. root has the key already."""
    return user.model_copy(update={"authorized_keys": tuple(dict.fromkeys([*own, *user.authorized_keys]))})


def _source(node: Node, disk: DiskTemplate) -> Source:
    if disk.image is not None:
        return image_source(node, disk.image)
    if disk.path is None:
        return Source(None, disk.size or 0, "empty")
    path = node.config.local(disk.path)
    return Source(path, check_image(path), str(path))


def _check_sizes(template: VmTemplate, sources: Sequence[Source]) -> None:
    """Checks the sizes again, now that all images are built. Raises ConfigError."""
    for disk, source in zip(template.disk, sources, strict=True):
        if disk.size is not None:
            check_size(disk.size, source.size, f"template {template.name!r}, disk {disk.name!r}")


def _own_key(node: Node) -> list[str]:
    """virshle's own key; empty in a dry run if there is no key yet."""
    dry = node.dry_run is not None and not key_file(node.layout.keys).exists()
    return [] if dry else [read_key(node.layout.keys)]


def _identities(node: Node, order: Order, entries: Sequence[Entry]) -> list[Identity]:
    """Chooses names and numbers. The caller holds the registry's lock. Raises ConflictError."""
    names = {*links(node.layout.names), *(entry.name for entry in entries)}
    numbers = {int(name) for name in links(node.layout.ids) if name.isdecimal()}
    numbers |= {entry.summary.id for entry in entries if entry.summary}
    free = (number for number in itertools.count(1) if number not in numbers)
    wanted: Sequence[str | None] = _names(order) if order.name else [None] * order.count
    identities = []
    for name in wanted:
        if name in names:
            raise _taken(node, name)
        chosen = name or invent_name(names)
        names.add(chosen)
        identities.append(Identity(uuid4(), next(free), chosen))
    return identities


def _staged(node: Node, vm: Vm, *steps: Step) -> Plan:
    return node.plan(vm, *steps, folder=node.layout.staged(vm.uuid))


def _fill(node: Node, vm: Vm, template: VmTemplate, sources: Sequence[Source]) -> list[Step]:
    """Makes all files in the VM's folder; the definition is the last."""
    staged = node.layout.staged(vm.uuid)
    steps: list[Step] = []
    for disk, wanted, source in zip(vm.disks, template.disk, sources, strict=True):
        target = staged / disk.file
        if source.path is None:
            steps += blank(target, disk.size)
        else:
            steps += clone(source.path, target, image=source.size, size=disk_size(wanted, source))
    first = sources[0]
    if first.kernel is not None and first.initrd is not None:
        copy = ("cp", "--reflink=auto", "--no-preserve=mode,ownership", "--", first.kernel, first.initrd)
        steps.append(run("copy its kernel and initrd", *copy, staged / "boot"))
    return [*steps, write_definition(staged, vm, lasting=False)]
