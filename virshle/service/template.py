"""What the configuration offers."""

from __future__ import annotations

from typing import Any

from virshle.config.load import BUILT_IN
from virshle.config.schema import VmTemplate
from virshle.errors import VirshleError
from virshle.image import own_flake
from virshle.service.image_list import image_row
from virshle.service.node import Node
from virshle.template import unsupported_nets


def template_rows(node: Node, *, check: bool = False) -> list[dict[str, Any]]:
    """A row per template; `memory` in bytes, `built` and what follows it of the image that is booted."""
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
    """Why `create` would refuse it, as far as a look at the configuration tells."""
    try:
        unsupported_nets(template)
    except VirshleError as error:
        return error.message.partition(": ")[2]
    for disk in template.disk:
        if disk.image is not None and node.config.images[disk.image].builtin == "nixos":
            try:
                own_flake()
            except VirshleError as error:
                return error.message
    return None


def config_warnings(node: Node) -> list[str]:
    """What loads and has no effect, or would be refused when it is used."""
    return [
        *node.config.warnings,
        *(
            f"{node.config.origins['template', name]}: template {name!r}: {problem}; `create` refuses it"
            for name, template in node.config.templates.items()
            if node.config.origins["template", name] != BUILT_IN and (problem := _problem(node, template))
        ),
    ]
