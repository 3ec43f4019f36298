"""Options that many commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from virshle import log
from virshle.cli.complete import STATE, VM, columns_of
from virshle.cli.output import FORMATS, Bars
from virshle.errors import UsageError
from virshle.model.states import STATES

if TYPE_CHECKING:
    from virshle.service.node import Node


Command = Callable[..., Any]


class Whole(click.IntRange):
    """A whole number within bounds. Its error is a plain sentence."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{value!r} is not a whole number from {self.min} to {self.max}", param, ctx)


SECONDS = Whole(0, 86400)


def verbose(function: Command) -> Command:
    """Adds -v, which means the same after the verb as before it."""

    def count(_: click.Context, __: click.Parameter, value: int) -> None:
        log.set_level(max(log.level(), value))

    return click.option(
        "-v", "--verbose", count=True, expose_value=False, callback=count, help="Show more, up to -vvvv."
    )(function)


def with_node(function: Command) -> Command:
    """Gives the command the argument `node`, and the option -v."""

    @verbose
    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        return function(*args, node=open_node(), **kwargs)

    return command


def changing(function: Command) -> Command:
    """The same for a command that changes the host: it has --dry-run too."""

    @verbose
    @click.option("--dry-run", is_flag=True, help="Show every step as a shell command, and do nothing.")
    @functools.wraps(function)
    def command(*args: Any, dry_run: bool, **kwargs: Any) -> Any:
        return function(*args, node=open_node(dry_run=dry_run), **kwargs)

    return command


user_data_option = click.option(
    "-u",
    "--user-data",
    "--cloud-init",
    "user_data",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A TOML file with users and their keys, or a cloud-config (its first line is #cloud-config).",
)


def open_node(*, dry_run: bool = False) -> Node:
    from virshle.service.node import Node

    return Node.here(dry_run=click.echo if dry_run else None, progress=Bars())


def selecting(function: Command) -> Command:
    """Selects VMs, by words or by the first virshle's selectors. Gives the argument `selection`."""

    @click.argument("vms", nargs=-1, metavar="[VM]...", shell_complete=VM)
    @click.option("--name", "names", multiple=True, shell_complete=VM, help="A VM by its name.")
    @click.option("--id", "ids", multiple=True, help="A VM by its number.")
    @click.option("--uuid", "uuids", multiple=True, help="A VM by its uuid.")
    @click.option("--state", shell_complete=STATE, help=f"All VMs in this state: {', '.join(STATES)}.")
    @click.option("--account", help="All VMs of this account, a uuid.")
    @click.option("--all", "everything", is_flag=True, help="All VMs.")
    @functools.wraps(function)
    def command(
        *args: Any,
        vms: tuple[str, ...],
        names: tuple[str, ...],
        ids: tuple[str, ...],
        uuids: tuple[str, ...],
        state: str | None,
        account: str | None,
        everything: bool,
        **kwargs: Any,
    ) -> Any:
        from virshle.service.select import Selection

        selection = Selection(vms, names, ids, uuids, state, account, everything)
        return function(*args, selection=selection, **kwargs)

    return command


def formatted(known: Sequence[str]) -> Callable[[Command], Command]:
    """Adds --format, -c and -q. Gives the arguments `form`, `columns` and `quiet`. `known`: all columns."""

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def command(*args: Any, form: str | None, columns: str | None, quiet: bool, **kwargs: Any) -> Any:
            if quiet and (form or columns):
                raise UsageError("-q prints only names, as plain text", hint="leave -q out, or: --format json -c name")
            return function(*args, form=form or FORMATS[0], columns=columns, quiet=quiet, **kwargs)

        options = (
            click.option("-q", "--quiet", is_flag=True, help="Print the names only."),
            click.option(
                "-c",
                "--columns",
                shell_complete=columns_of(known),
                help="Only these columns, separated by commas; `all` for all columns.",
            ),
            click.option("--format", "form", type=click.Choice(FORMATS), help="A table, or data with all columns."),
        )
        for option in options:
            command = option(command)
        return command

    return decorate
