"""`v config check`, `v config show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from virshle import log
from virshle.cli.group import Group
from virshle.cli.options import formatted, with_node
from virshle.cli.output import print_rows

if TYPE_CHECKING:
    from virshle.service.node import Node


_SHOWN = ("name", "value", "from")


@click.group(cls=Group)
def config() -> None:
    """The configuration: check it, and show its values."""


@config.command(epilog="\b\nExample:\n  v config check")
@with_node
def check(node: Node) -> None:
    """Check the whole configuration, and if a VM could be created from each template. All problems are shown at once;
    the exit code is 3 if there is one."""
    from virshle.service.template import check_config

    paths = node.paths
    file = log.one_line(str(paths.config)) if paths.config.exists() else f"no file (it would be {paths.config})"
    for warning in node.config.warnings:
        log.warn(warning)
    check_config(node)
    count = len(node.config.templates)
    click.echo(f"{file}: no problem; {count} templates and {len(node.config.images)} images, with the built-in ones")


@config.command(epilog="\b\nExamples:\n  v config show\n  v config show --format json")
@formatted(_SHOWN)
@with_node
def show(form: str, columns: str | None, quiet: bool, node: Node) -> None:
    """Show every value, and where it comes from."""
    from virshle.config.load import provenance

    rows = [{"name": key, "value": value, "from": origin} for key, value, origin in provenance(node.config)]
    if form == "table":
        for row in rows:
            if isinstance(row["value"], bool):
                row["value"] = str(row["value"]).lower()  # as in the file
    print_rows(rows, form=form, columns=columns, default=_SHOWN, known=_SHOWN, quiet=quiet)
