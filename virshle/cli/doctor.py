"""`v doctor`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from virshle import log
from virshle.cli.options import formatted, with_node
from virshle.cli.output import print_rows
from virshle.cli.streams import styled

if TYPE_CHECKING:
    from virshle.service.node import Node


_COLUMNS = ("name", "ok", "found", "remedy", "area")


@click.command(epilog="\b\nExample:\n  v doctor")
@formatted(_COLUMNS)
@with_node
def doctor(form: str, columns: str | None, quiet: bool, node: Node) -> int:
    """Check this host and its VMs: what works, what is missing, and what is left over. Each problem is shown with the
    command that fixes it. The exit code is 3 if something must be fixed."""
    from virshle.service.doctor import examine

    checks = examine(node)
    if form == "table" and columns is None and not quiet:
        for check in checks:
            mark = styled(sys.stdout, {"yes": "ok  ", "no": "BAD ", "limited": "note"}[check.ok], bold=check.ok == "no")
            # These texts may contain file names, which other users may have chosen.
            click.echo(f"{mark}  {log.one_line(check.name)}: {log.one_line(check.found)}")
            if check.remedy:
                click.echo(f"      fix: {log.pasteable(check.remedy, lines=False)}")
    else:
        rows = [vars(check) for check in checks]
        print_rows(rows, form=form, columns=columns, default=_COLUMNS, known=_COLUMNS, quiet=quiet)
    return 3 if any(check.ok == "no" for check in checks) else 0
