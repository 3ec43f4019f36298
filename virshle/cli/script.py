"""`v script`."""

from __future__ import annotations

import click

from virshle.cli.options import with_node
from virshle.service.node import Node
from virshle.service.script import script as script_of


@click.command(epilog="\b\nExamples:\n  v script web > web.sh\n  v script web | ssh other-host bash")
@click.argument("vm")
@with_node
def script(vm: str, node: Node) -> None:
    """Print a VM as a bash script, which makes and runs it without virshle."""
    click.echo(script_of(node, node.store.find(vm)), nl=False)
