"""`v doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from virshle.cli.options import formatted, with_node
from virshle.cli.output import print_rows

if TYPE_CHECKING:
    from virshle.service.node import Node


_COLUMNS = ("name", "ok", "found", "remedy", "area")


@click.command(epilog="\b\nExample:\n  v doctor")
@formatted(_COLUMNS)
@with_node
def doctor(form: str, columns: str | None, quiet: bool, node: Node) -> int:
    """Check this host and its VMs: what works, what is missing or nobody's, and the line that mends it. Exit code 3 if
    something must be mended."""
    from virshle.service.doctor import examine

    checks = examine(node)
    if form == "table" and columns is None and not quiet:
        for check in checks:
            mark = click.style({"yes": "ok  ", "no": "BAD ", "limited": "note"}[check.ok], bold=check.ok == "no")
            click.echo(f"{mark}  {check.name}: {check.found}")
            if check.remedy:
                click.echo(f"      mend it: {check.remedy}")
    else:
        rows = [vars(check) for check in checks]
        print_rows(rows, form=form, columns=columns, default=_COLUMNS, known=_COLUMNS, quiet=quiet)
    return 3 if any(check.ok == "no" for check in checks) else 0
