"""Create: VMs from a template, all of them or none; killed between their commits, those stay whose was made."""

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
    """What is asked for. `name`: of the only one, or the stem of several; made up where it is left out."""

    template: str
    name: str | None = None
    count: int = 1
    user_data: Sequence[Path] = ()
    """Files of users, or a cloud-config."""


def create(node: Node, order: Order) -> list[Vm]:
    """The VMs made. Raises ConfigError, NotFoundError, ConflictError, HostError; then none was made."""
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
            # The folders first, then their locks, so that nobody who tidies takes them for abandoned.
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
    """What is there before it is there after a power cut."""
    return run("write all of it to the disk", "sync", "--file-system", node.layout.vms, timeout=3600)


def _copied(sources: Sequence[Source]) -> list[Path]:
    """Every file that each VM gets a copy of."""
    files = [file for source in sources for file in (source.path, source.kernel, source.initrd) if file is not None]
    return [file for file in files if file.exists()]


def _check_names(node: Node, order: Order) -> None:
    """Before any work: what is certainly wrong. A name whose link is missing is found to be taken later, under the
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
            hint="choose another name; `v doctor` says where that folder is, as far as that can be known",
        )
    hint = f"choose another, or leave it out; to remove the old one: v delete {name}"
    return ConflictError(f"there is a VM named {name!r} already", hint=hint)


def _names(order: Order) -> list[str]:
    assert order.name is not None
    return [order.name] if order.count == 1 else [f"{order.name}-{index}" for index in range(1, order.count + 1)]


def _check_taken(data: UserData, source: Source) -> None:
    """That the guest takes what is given for it, or that this is not known. Raises ConfigError."""
    given = [word for word, value in (("users", data.users), ("cloud-config", data.cloud_config)) if value]
    if not given:
        return
    image = f"image {source.image!r}" if source.image else source.described
    if source.takes is None:
        log.note(f"{' and '.join(given)}: for cloud-init in {image}; they have no effect where it has none")
        if data.cloud_config:
            log.note("the cloud-config's YAML is not checked here; in the VM: cloud-init status --long")
    elif "cloud-config" in given and "cloud-config" not in source.takes:
        raise ConfigError(
            f"{image} has no cloud-init, and takes no cloud-config",
            hint="take an image that has it, a cloud image for example: v image import FILE; or users alone, in TOML",
        )
    elif "users" in given and "users" not in source.takes:
        raise ConfigError(
            f"{image} makes no users",
            hint=f"if an earlier virshle built it: v image build {source.image}; else take another image",
        )


def _entered_by(user: User, own: Sequence[str]) -> User:
    """`v ssh -l USER` enters too: virshle's key is root's already."""
    return user.model_copy(update={"authorized_keys": tuple(dict.fromkeys([*own, *user.authorized_keys]))})


def _source(node: Node, disk: DiskTemplate) -> Source:
    if disk.image is not None:
        return image_source(node, disk.image)
    if disk.path is None:
        return Source(None, disk.size or 0, "empty")
    path = node.config.local(disk.path)
    return Source(path, check_image(path), str(path))


def _check_sizes(template: VmTemplate, sources: Sequence[Source]) -> None:
    """Again, now that what was not built is. Raises ConfigError."""
    for disk, source in zip(template.disk, sources, strict=True):
        if disk.size is not None:
            check_size(disk.size, source.size, f"template {template.name!r}, disk {disk.name!r}")


def _own_key(node: Node) -> list[str]:
    """virshle's; none in a dry run before there is one."""
    dry = node.dry_run is not None and not key_file(node.layout.keys).exists()
    return [] if dry else [read_key(node.layout.keys)]


def _identities(node: Node, order: Order, entries: Sequence[Entry]) -> list[Identity]:
    """Chosen under the registry's lock. Raises ConflictError."""
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
    """All that is in its folder; the definition last."""
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
        steps.append(run("copy what it boots", *copy, staged / "boot"))
    return [*steps, write_definition(staged, vm, lasting=False)]
