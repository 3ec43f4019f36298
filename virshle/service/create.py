"""Create: VMs from a template, all of them or none."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from virshle import log
from virshle.config.schema import DiskTemplate, VmTemplate
from virshle.disk import blank, check_image, check_size, clone, need_space
from virshle.errors import ConflictError, UsageError
from virshle.fs import Lock, expand
from virshle.model.names import check_name, invent_name
from virshle.model.vm import KernelBoot, Vm
from virshle.plan import Apply, Plan, Step, Write, run
from virshle.service.image import ensure_built, hold_image, image_source
from virshle.service.node import Node
from virshle.store import claim, commit
from virshle.store.layout import definition
from virshle.store.read import links
from virshle.template import Identity, Source, define, disk_size, unsupported_nets
from virshle.userdata import UserData, key_file, make_key, personal_keys, read_key, read_user_data
from virshle.vmm.choose import choose_driver


@dataclass(frozen=True)
class Order:
    """What is asked for. `name`: of the only one, or the stem of several; made up where it is left out."""

    template: str
    name: str | None = None
    count: int = 1
    user_data: Path | None = None


def create(node: Node, order: Order) -> list[Vm]:
    """The VMs made. Raises ConfigError, NotFoundError, ConflictError, HostError; then none was made."""
    template = node.config.template(order.template)
    unsupported_nets(template)
    driver = choose_driver(template.hypervisor)
    _check_names(node, order)
    user_data = _user_data(order)
    images = [disk.image for disk in template.disk if disk.image is not None]
    for image in images:
        ensure_built(node, image)

    with node.apply() as apply:
        for image in images:
            hold_image(node, apply, image)
        sources = [_source(node, template, disk) for disk in template.disk]
        files = [source.path for source in sources if source.path is not None and source.path.exists()]
        need_space(node.paths.state, files, order.count)
        with node.registry(apply):
            apply(Plan("key", make_key(node.layout.keys)))
            keys = _keys(node)
            identities = _identities(node, order)
            vms = [
                define(
                    template,
                    identity,
                    sources,
                    authorized_keys=keys,
                    users=user_data.users(),
                    account=user_data.account.uuid if user_data.account else None,
                )
                for identity in identities
            ]
            for vm in vms:
                _claim(node, apply, vm)
        for vm in vms:
            staged = node.layout.staged(vm.uuid)
            steps = [*_fill(vm, staged, template, sources), *driver.prepare(vm, staged), _define(vm, staged)]
            apply(node.plan(vm, *steps, folder=staged))
        for vm in vms:
            apply(node.plan(vm, *commit(node.layout, vm.uuid), folder=node.layout.staged(vm.uuid)))
        apply.commit()
    return vms


def _check_names(node: Node, order: Order) -> None:
    """Before any work: what is certainly wrong. Raises UsageError, ConflictError."""
    if order.name is None:
        return
    for name in _names(order):
        try:
            check_name(name)
        except ValueError as error:
            raise UsageError(str(error), hint="for example: web, db-2") from None
        _check_free(node, name)


def _check_free(node: Node, name: str) -> None:
    for entry in node.store.entries():
        if entry.name == name:
            hint = f"choose another, or leave it out; to remove the old one: v delete {name}"
            raise ConflictError(f"there is a VM named {name!r} already", hint=hint)


def _names(order: Order) -> list[str]:
    assert order.name is not None
    return [order.name] if order.count == 1 else [f"{order.name}-{index}" for index in range(1, order.count + 1)]


def _user_data(order: Order) -> UserData:
    if order.user_data is None:
        return UserData()
    data, warnings = read_user_data(order.user_data)
    for warning in warnings:
        log.warn(warning)
    return data


def _source(node: Node, template: VmTemplate, disk: DiskTemplate) -> Source:
    what = f"template {template.name!r}, disk {disk.name!r}"
    if disk.image is not None:
        source = image_source(node, disk.image)
    elif disk.path is not None:
        path = expand(disk.path)
        source = Source(path, check_image(path), str(path))
    else:
        return Source(None, disk.size or 0, "empty")
    if disk.size is not None:
        check_size(disk.size, source.size, what)
    return source


def _keys(node: Node) -> list[str]:
    """virshle's own key first, then the caller's, each once."""
    dry = node.dry_run is not None and not key_file(node.layout.keys).exists()
    own = [] if dry else [read_key(node.layout.keys)]
    return list(dict.fromkeys([*own, *personal_keys()]))


def _identities(node: Node, order: Order) -> list[Identity]:
    """Chosen under the registry's lock."""
    taken = {*links(node.layout.names), *(entry.name for entry in node.store.entries())}
    numbers = {int(name) for name in links(node.layout.ids) if name.isdecimal()}
    numbers |= {entry.summary.id for entry in node.store.entries() if entry.summary}
    wanted: Sequence[str | None] = _names(order) if order.name else [None] * order.count
    identities = []
    for name in wanted:
        if name in taken:
            raise ConflictError(f"there is a VM named {name!r} already", hint="choose another name, or leave it out")
        chosen = name or invent_name(taken)
        number = next(n for n in range(1, len(numbers) + 2) if n not in numbers)
        taken.add(chosen)
        numbers.add(number)
        identities.append(Identity(uuid.uuid4(), number, chosen))
    return identities


def _claim(node: Node, apply: Apply, vm: Vm) -> None:
    staged = node.layout.staged(vm.uuid)
    steps = claim(node.layout, vm.uuid, vm.name, vm.id)
    # The folder first, then its lock, so that nobody who tidies takes it for abandoned.
    apply(node.plan(vm, steps[0], folder=staged))
    if not node.dry_run:
        apply.hold(Lock(staged))
    apply(node.plan(vm, *steps[1:], folder=staged))


def _fill(vm: Vm, staged: Path, template: VmTemplate, sources: Sequence[Source]) -> list[Step]:
    steps: list[Step] = []
    for disk, wanted, source in zip(vm.disks, template.disk, sources, strict=True):
        target = staged / disk.file
        if source.path is None:
            steps += blank(target, disk.size)
        else:
            steps += clone(source.path, target, image=source.size, size=disk_size(wanted, source))
    if isinstance(vm.boot, KernelBoot):
        first = sources[0]
        assert first.kernel and first.initrd
        copy = ("cp", "--reflink=auto", "--no-preserve=mode,ownership", "--", first.kernel, first.initrd)
        steps.append(run("copy what it boots", *copy, staged / "boot"))
    return steps


def _define(vm: Vm, staged: Path) -> Step:
    return Write("write its definition", definition(staged), vm.model_dump_json(indent=2) + "\n")
