"""`v run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from virshle.cli.complete import TEMPLATE, path
from virshle.cli.options import SECONDS, changing, user_data_option

if TYPE_CHECKING:
    from virshle.service.node import Node


EXAMPLES = """\b
Examples:
  v run -t tiny -- uname -a
  v run -t web --in . --out result -- 'cd src && make test'
  v run -t web --in src:/srv/src --out /var/log/app.log:logs/ -- /srv/src/check
"""


@click.command("run", epilog=EXAMPLES, context_settings={"allow_interspersed_args": False})
@click.option(
    "-t", "--template", "template", shell_complete=TEMPLATE, required=True, help="The template: v template ls."
)
@click.option(
    "--in",
    "into",
    multiple=True,
    shell_complete=path,
    metavar="SRC[:DST]",
    help="Copy a file or folder into the VM first.",
)
@click.option("--out", multiple=True, metavar="SRC[:DST]", help="Copy a file or folder out of the VM at the end.")
@click.option("--keep", is_flag=True, help="Keep the VM, and leave it running.")
@click.option("--timeout", type=SECONDS, default=120.0, help="Seconds that the VM may take to be ready.")
@user_data_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] CMD...")
@changing
def run(
    template: str,
    into: tuple[str, ...],
    out: tuple[str, ...],
    keep: bool,
    timeout: float,
    user_data: tuple[Path, ...],
    command: tuple[str, ...],
    node: Node,
) -> int:
    """Run a command in a new VM, then delete the VM. The exit code is that of the command. The command has
    a terminal if v's input and output are a terminal."""
    from virshle.service.run import Job
    from virshle.service.run import run as run_job

    return run_job(node, Job(template, command, into, out, keep, timeout, user_data))
