"""The templates of the configuration, and their problems."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from virshle.config.load import BUILT_IN
from virshle.config.schema import DiskTemplate, ImageConfig, VmTemplate
from virshle.disk import check_image, check_size
from virshle.errors import ConfigError, NotFoundError, VirshleError
from virshle.image import file_recipe, flake_of
from virshle.service.image import known_size
from virshle.service.image_list import image_row
from virshle.service.node import Node
from virshle.template import unsupported_nets
from virshle.vmm.account import vmm_user
from virshle.vmm.choose import check_hypervisor
from virshle.vmm.memory import check_memory


def check_template(node: Node, template: VmTemplate) -> None:
    """Called before a VM is created from it. Raises its first problem: ConfigError, NotFoundError, HostError."""
    for problem in problems(node, template):
        raise problem


def problems(node: Node, template: VmTemplate) -> Iterator[VirshleError]:
    """Why no VM can be created from it, as far as this is known before its images are built. `create`, `template ls`
    and `config check` all use this."""
    looks: list[tuple[str, Callable[[], object]]] = [
        ("", partial(unsupported_nets, template)),
        ("", partial(check_hypervisor, template.hypervisor, vmm_user(), template.vcpu)),
        ("", partial(check_memory, template.vram)),
        ("", partial(_check_firmware, node, template)),
        *((f", disk {disk.name!r}", partial(_check_disk, node, disk)) for disk in template.disk),
    ]
    for where, look in looks:
        if error := _failure(look):
            message = f"template {template.name!r}{where}: {error.message}"
            yield type(error)(message, hint=error.hint, details=error.details)


def _failure(look: Callable[[], object]) -> VirshleError | None:
    try:
        look()
    except VirshleError as error:
        return error
    return None


def _check_firmware(node: Node, template: VmTemplate) -> None:
    if template.firmware and template.hypervisor != "qemu":
        file = node.config.local(template.firmware)
        if not file.is_file():
            raise NotFoundError(f"there is no firmware {file}", hint="check `firmware` in the template")


def _check_disk(node: Node, disk: DiskTemplate) -> None:
    if disk.image is not None:
        size = _check_image(node, node.config.image(disk.image))
    else:
        size = check_image(node.config.local(disk.path)) if disk.path is not None else None
    if disk.size is not None and size is not None:
        check_size(disk.size, size)


def _check_image(node: Node, image: ImageConfig) -> int | None:
    """The bytes of its disk; None if it is not built. For an image that Nix builds, this checks only that its source
    files exist."""
    if image.file is not None:
        file_recipe(image, node.config.local)
    elif flake := flake_of(image, node.config.local):
        # Nix's manual, nix flake, "Flake references": paths and `file` URLs are on this host.
        hit = re.fullmatch(r"(?:path:|(?:git|hg)\+file://)?(/[^?]*)(?:\?.*)?", flake.flake)
        if hit and not Path(hit[1]).exists():
            raise NotFoundError(
                f"image {image.name!r}: there is no flake {hit[1]}", hint="check `nix` in the [[image]]"
            )
    return known_size(node, image.name)


def template_rows(node: Node, *, check: bool = False) -> list[dict[str, Any]]:
    """One row per template. `memory` in bytes; `built` and the columns after it are about the image that is booted."""
    booted = {template.disk[0].image for template in node.config.templates.values()}
    images = {name: image_row(node, node.config.images[name], check=check) for name in booted if name}
    rows = []
    for name, template in node.config.templates.items():
        image = images.get(template.disk[0].image or "", {})
        rows.append(
            {
                "name": name,
                "vcpu": template.vcpu,
                "memory": template.vram,
                "disks": ", ".join(f"{disk.name}={disk.image or disk.path or 'empty'}" for disk in template.disk),
                "nets": ", ".join(f"{net.name}={net.type.kind}" for net in template.net) or None,
                "hypervisor": template.hypervisor,
                **{key: image.get(key) for key in ("built", "size", "virtual", "revision", "current")},
                "from": node.config.origins["template", name],
                "problem": _problem(node, template) or image.get("problem"),
            }
        )
    return rows


def _problem(node: Node, template: VmTemplate) -> str | None:
    """The first problem, without the name of the template."""
    for problem in problems(node, template):
        return problem.message.removeprefix(f"template {template.name!r}").lstrip(":, ")
    return None


def check_config(node: Node) -> None:
    """Raises ConfigError with all problems of the user's own templates, and of the images that they do not name."""
    config = node.config
    own = [one for name, one in config.templates.items() if config.origins["template", name] != BUILT_IN]
    found = [problem for template in own for problem in problems(node, template)]
    named = {disk.image for template in own for disk in template.disk}
    for name, image in config.images.items():
        if name not in named and config.origins["image", name] == str(node.paths.config):
            found += filter(None, [_failure(partial(_check_image, node, image))])
    if found:
        count = f"{len(found)} problem{'s' if len(found) > 1 else ''}"
        raise ConfigError(
            f"{node.paths.config} has {count}: `v create` would fail",
            details=[line for problem in found for line in _lines(problem)],
            hint="fix the file, then: v config check",
        )


def _lines(problem: VirshleError) -> list[str]:
    hint = [f"  {problem.hint}"] if problem.hint else []
    return [problem.message, *(f"  {line}" for line in problem.details), *hint]
