"""What the configuration offers."""

from __future__ import annotations

from typing import Any

from virshle.config.load import BUILT_IN
from virshle.config.schema import VmTemplate
from virshle.errors import VirshleError
from virshle.service.node import Node
from virshle.template import unsupported_nets


def template_rows(node: Node) -> list[dict[str, Any]]:
    """A row per template; `memory` in bytes."""
    rows = []
    for name, template in node.config.templates.items():
        problem = _problem(node, template)
        rows.append(
            {
                "name": name,
                "vcpu": template.vcpu,
                "memory": template.vram,
                "disks": ", ".join(f"{disk.name}={disk.image or disk.path or 'empty'}" for disk in template.disk),
                "nets": ", ".join(f"{net.name}={net.type.kind}" for net in template.net) or None,
                "hypervisor": template.hypervisor,
                "from": node.config.origins["template", name],
                "problem": problem,
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
            return f"image {disk.image!r} is to be given: a raw EFI image of your NixOS"
    return None


def config_warnings(node: Node) -> list[str]:
    """What loads and has no effect, or would be refused when it is used."""
    return [
        *node.config.warnings,
        *(
            f"{row['from']}: template {row['name']!r}: {row['problem']}; `create` refuses it"
            for row in template_rows(node)
            if row["problem"] and row["from"] != BUILT_IN
        ),
    ]
