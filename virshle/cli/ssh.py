"""`v ssh`."""

from __future__ import annotations

import click

from virshle.cli.options import with_node
from virshle.service.node import Node
from virshle.service.ssh import enter


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="\b\nExamples:\n  v ssh web                  a shell\n  v ssh web uname -a         a command, its exit code"
    "\n  v ssh web 'dmesg | tail'   one word is read by the guest's shell",
)
@click.argument("vm")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("-l", "--login", help="Another user than the template's.")
@with_node
def ssh(vm: str, command: tuple[str, ...], login: str | None, node: Node) -> None:
    """Open a shell in a VM, or run a command there."""
    enter(node, node.store.find(vm), command, login=login)
