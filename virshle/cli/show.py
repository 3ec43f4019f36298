"""`v ls`, `v info`, `v logs`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from virshle.cli.complete import VM
from virshle.cli.options import formatted, selecting, with_node
from virshle.cli.output import print_details, print_rows
from virshle.cli.streams import Tamed
from virshle.errors import NotFoundError
from virshle.fs import explained, no_link

if TYPE_CHECKING:
    from virshle.service.node import Node
    from virshle.service.select import Selection


_DEFAULT = ("id", "name", "state", "vcpu", "memory", "template", "image", "ssh")
_ALL = (
    *("id", "name", "state", "vcpu", "memory", "template", "image", "outdated", "ssh"),
    *("uuid", "created", "account", "problem"),
)
"""The fields of `virshle.service.show.Row`."""
_NONE = "no VMs; create one: v create -t tiny web --start --wait"


@click.command(epilog="\b\nExamples:\n  v ls\n  v ls --state running -q\n  v ls --format json -c name,ssh")
@selecting
@formatted(_ALL)
@with_node
def ls(selection: Selection, form: str, columns: str | None, quiet: bool, node: Node) -> None:
    """List VMs with their state."""
    from virshle.service.select import select
    from virshle.service.show import rows

    shown = rows(node, select(node, selection, needed=False))
    if not shown and form == "table" and not quiet:
        none = "no VM matches" if selection.state or selection.account else _NONE
        click.echo(none, err=True)
        return
    more = [column for column in ("outdated", "problem") if any(getattr(one, column) for one in shown)]
    print_rows(
        [vars(one) for one in shown],
        form=form,
        columns=columns,
        default=(*_DEFAULT, *more),
        known=_ALL,
        quiet=quiet,
        bytes_in=("memory",),
    )


@click.command(epilog="\b\nExamples:\n  v info web\n  v info web --format json | jq '.[0].disks'")
@selecting
@click.option("--format", "form", type=click.Choice(["table", "json", "yaml"]), default="table")
@with_node
def info(selection: Selection, form: str, node: Node) -> None:
    """Show everything that is known about VMs. As json or yaml it is a list, also for one VM."""
    from virshle.service.select import select
    from virshle.service.show import details

    found = [details(node, entry) for entry in select(node, selection)]
    print_details(found, form)


@click.command(
    epilog="\b\nExamples:\n  v logs web               what the guest wrote to its console\n  v logs web -f"
    "\n  v logs web --commands    all host commands that v ever ran for it"
)
@click.argument("vm", shell_complete=VM)
@click.option("-f", "--follow", is_flag=True, help="Go on, and print what is added.")
@click.option("--commands", "kind", flag_value="commands", help="Show all host commands that v ever ran for the VM.")
@click.option("--vmm", "kind", flag_value="vmm", help="Show what the VMM itself wrote.")
@click.option(
    "--raw", is_flag=True, help="Print it unchanged on a terminal too; its control characters may harm the terminal."
)
@with_node
def logs(vm: str, follow: bool, kind: str | None, raw: bool, node: Node) -> None:
    """Show a VM's console log, its VMM's log, or the host commands that v ran for it."""
    from virshle.service.show import log_file

    entry = node.store.find(vm)
    path = log_file(node, entry, kind or "console")
    if not path.exists() and not follow:
        raise NotFoundError(f"{entry.name} has no {kind or 'console'} log yet", hint=f"start it: v start {entry.name}")
    with explained("read the log"):
        _copy(path, _deleted(entry.folder) if follow else lambda: True, raw=raw or not sys.stdout.isatty())
    if follow:
        click.echo(f"{entry.name} has been deleted", err=True)


def _deleted(folder: Path) -> Callable[[], bool]:
    """A function that says if the folder was deleted, also if it was moved before."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    return lambda: os.fstat(handle).st_nlink == 0


def _copy(path: Path, ended: Callable[[], bool], *, raw: bool) -> None:
    tamed = Tamed()

    def write(block: bytes, *, last: bool = False) -> None:
        text = block if raw else tamed(block, last=last).encode(sys.stdout.encoding, "backslashreplace")
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()

    while not path.exists():
        if ended():
            return
        time.sleep(0.1)
    with open(path, "rb", opener=no_link) as file:
        while True:
            last = ended()
            if os.fstat(file.fileno()).st_size < file.tell():
                file.seek(0)  # the file was truncated
            while block := file.read(65536):
                write(block)
            if last:
                write(b"", last=True)
                return
            time.sleep(0.1)
