"""`v ssh`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from virshle.cli.complete import VM
from virshle.cli.options import with_node

if TYPE_CHECKING:
    from virshle.service.node import Node


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="\b\nExamples:\n  v ssh web                  a shell\n  v ssh web uname -a         a command, its exit code"
    "\n  v ssh web 'dmesg | tail'   one word is read by the guest's shell",
)
@click.argument("vm", shell_complete=VM)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("-l", "--login", help="Another user than the template's.")
@with_node
def ssh(vm: str, command: tuple[str, ...], login: str | None, node: Node) -> None:
    """Open a shell in a VM, or run a command there."""
    from virshle.service.ssh import enter

    enter(node, node.store.find(vm), command, login=login)
