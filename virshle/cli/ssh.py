"""`v ssh`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from virshle import log
from virshle.cli.complete import VM
from virshle.cli.options import Command, with_node
from virshle.errors import UsageError

if TYPE_CHECKING:
    from virshle.service.node import Node

_FLAGS = {
    "t": "Give the command a terminal.",
    "T": "Give a shell no terminal.",
    "A": "Let the guest use your ssh agent.",
    "N": "Run nothing: forward ports only.",
}
_VALUES = {
    "L": ("PORT:HOST:PORT", "Forward a port of this host into the guest."),
    "R": ("PORT:HOST:PORT", "Forward a port of the guest to this host."),
    "D": ("PORT", "Open a SOCKS proxy on this port, through the guest."),
    "i": ("FILE", "Try this key too."),
    "o": ("NAME=VALUE", "Set an option of ssh_config(5)."),
}
_MORE_FLAGS, _MORE_VALUES = "aCfGgKknqsXxYy", "cEemW"
"""Options that ssh(1) gets unchanged. Those that change how a VM is reached are not among them: -F, -J, -p, -S, -O, -M
and -w."""


def _passed_on(function: Command) -> Command:
    """Adds the options of ssh. Each is a parameter with the name of its letter."""
    for letter in reversed((*_FLAGS, *_MORE_FLAGS)):
        text = _FLAGS.get(letter)
        function = click.option(f"-{letter}", letter, count=True, hidden=text is None, help=text)(function)
    for letter in reversed((*_VALUES, *_MORE_VALUES)):
        metavar, text = _VALUES.get(letter, (None, None))
        function = click.option(f"-{letter}", letter, multiple=True, metavar=metavar, hidden=text is None, help=text)(
            function
        )
    return function


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="\b\nExamples:\n  v ssh web                  a shell"
    "\n  v ssh me@web               a shell as the user me, like -l me"
    "\n  v ssh web uname -a         a command; v ends with its exit code"
    "\n  v ssh web 'dmesg | tail'   a single word is run by the guest's shell"
    "\n  v ssh -t web top           a command with a terminal"
    "\n  v ssh -NL 8080:localhost:80 web"
    "\n\nOther options of ssh work too. All options come before the VM's name. ssh's configuration files are not read.",
)
@click.argument("vm", shell_complete=VM)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] [CMD...]")
@click.option("-l", "--login", help="Log in as this user, not as the template's.")
@_passed_on
@with_node
def ssh(vm: str, command: tuple[str, ...], login: str | None, node: Node, **letters: Any) -> None:
    """Open a shell in a VM, or run a command there."""
    from virshle.service.ssh import enter

    words = _after_name(vm, command)
    if login is None and "@" in vm:
        # As in ssh's own command line. A VM's name cannot have an @.
        login, _, vm = vm.rpartition("@")
    enter(node, node.store.find(vm), words, login=login, options=_options(letters))


def _options(letters: dict[str, Any]) -> list[str]:
    words = []
    for letter, given in letters.items():
        if isinstance(given, int):
            words += [f"-{letter * given}"] if given else []
        else:
            words += [word for value in given for word in (f"-{letter}", value)]
    return words


def _after_name(vm: str, words: tuple[str, ...]) -> tuple[str, ...]:
    """The guest's command. Before its first word -v and -h are still our options, as after any verb."""
    while words and words[0].startswith("-") and words[0] not in ("-", "--"):
        if words[0] in ("-h", "--help"):
            context = click.get_current_context()
            click.echo(context.get_help())
            context.exit()
        elif re.fullmatch("-v+", words[0]):
            log.set_level(max(log.level(), len(words[0]) - 1))
        elif words[0] == "--verbose":
            log.set_level(max(log.level(), 1))
        else:
            raise UsageError(
                f"{words[0]} comes after the VM's name, where the guest's command begins",
                hint=f"options come before it: v ssh {words[0]} {vm}; if it is the command: v ssh {vm} -- {words[0]}",
            )
        words = words[1:]
    return words[1:] if words[:1] == ("--",) else words
