"""`v template ls`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from virshle.cli.group import Group
from virshle.cli.image import CHECK, shown
from virshle.cli.options import formatted, with_node
from virshle.cli.output import print_rows

if TYPE_CHECKING:
    from virshle.service.node import Node


_DEFAULT = ("name", "vcpu", "memory", "disks", "built", "size", "virtual", "revision")
_COLUMNS = (*_DEFAULT, "current", "nets", "hypervisor", "from", "problem")


@click.group(cls=Group)
def template() -> None:
    """The templates: VMs are created from them."""


@template.command("ls", epilog="\b\nExamples:\n  v template ls\n  v template ls --check\n  v template ls --format json")
@click.option("--check", is_flag=True, help=CHECK)
@formatted(_COLUMNS)
@with_node
def ls(check: bool, form: str, columns: str | None, quiet: bool, node: Node) -> None:
    """List the templates, built-in and your own, and the state of the images that they boot."""
    from virshle.service.template import template_rows

    rows = template_rows(node, check=check)
    default = shown(_DEFAULT, rows, check=check)
    sizes = ("memory", "size", "virtual")
    print_rows(rows, form=form, columns=columns, default=default, known=_COLUMNS, quiet=quiet, bytes_in=sizes)
