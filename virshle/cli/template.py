"""`v template ls`."""

from __future__ import annotations

import click

from virshle.cli.options import formatted, with_node
from virshle.cli.output import print_rows
from virshle.service.node import Node
from virshle.service.template import template_rows

_COLUMNS = ("name", "vcpu", "memory", "disks", "nets", "hypervisor", "from", "problem")


@click.group()
def template() -> None:
    """What VMs are created from."""


@template.command("ls", epilog="\b\nExamples:\n  v template ls\n  v template ls --format json")
@formatted
@with_node
def ls(form: str, columns: str | None, quiet: bool, node: Node) -> None:
    """List the templates, the built-in ones and your own."""
    rows = template_rows(node)
    default = _COLUMNS if any(row["problem"] for row in rows) else _COLUMNS[:-1]
    print_rows(rows, form=form, columns=columns, default=default, known=_COLUMNS, quiet=quiet, bytes_in=("memory",))
