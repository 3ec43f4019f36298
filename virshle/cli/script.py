"""`v script`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from virshle import log
from virshle.cli.complete import VM
from virshle.cli.options import with_node

if TYPE_CHECKING:
    from virshle.service.node import Node


@click.command(epilog="\b\nExamples:\n  v script web > web.sh\n  v script web | ssh other-host bash")
@click.argument("vm", shell_complete=VM)
@with_node
def script(vm: str, node: Node) -> None:
    """Print a bash script that makes and runs the VM without virshle."""
    from virshle.service.script import script as script_of

    text = script_of(node, node.store.find(vm))
    click.echo(log.printable(text) if sys.stdout.isatty() else text, nl=False)
