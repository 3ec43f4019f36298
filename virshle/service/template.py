"""What the configuration offers."""

from __future__ import annotations

from typing import Any

from virshle.errors import VirshleError
from virshle.service.node import Node
from virshle.template import unsupported_nets


def template_rows(node: Node) -> list[dict[str, Any]]:
    """A row per template; `memory` in bytes."""
    rows = []
    for name, template in node.config.templates.items():
        try:
            unsupported_nets(template)
            problem = None
        except VirshleError as error:
            problem = error.message.partition(": ")[2]
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


def config_warnings(node: Node) -> list[str]:
    """What loads but would be refused when it is used."""
    return [
        f"{row['from']}: template {row['name']!r}: {row['problem']}; `create` refuses it"
        for row in template_rows(node)
        if row["problem"]
    ]
