"""`v create`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from virshle import log
from virshle.cli.complete import TEMPLATE
from virshle.cli.lifecycle import start_all
from virshle.cli.options import SECONDS, Whole, changing, user_data_option
from virshle.cli.output import print_names
from virshle.errors import HostError, UsageError

if TYPE_CHECKING:
    from virshle.service.node import Node


EXAMPLES = """\b
Examples:
  v create -t tiny                      one VM, with a name that v chooses
  v create -t tiny web --start --wait   one VM, started and ready
  v create -t tiny db -n 3              db-1, db-2 and db-3
  v create -t tiny web --dry-run        every step is shown, and nothing is done
"""


@click.command(epilog=EXAMPLES)
@click.argument("name", required=False)
@click.option(
    "-t", "--template", "template", shell_complete=TEMPLATE, required=True, help="The template: v template ls."
)
@click.option(
    "-n",
    "--count",
    type=Whole(1, 1000),
    default=1,
    help="How many VMs. All are created or none, unless v is killed in its last moment.",
)
@user_data_option
@click.option("--start", "begin", is_flag=True, help="Start the new VMs.")
@click.option("--wait", is_flag=True, help="Wait until the new VMs are ready; implies --start.")
@click.option("--timeout", type=SECONDS, default=120.0, help="Seconds that --wait waits at most.")
@changing
def create(
    name: str | None,
    template: str,
    count: int,
    user_data: tuple[Path, ...],
    begin: bool,
    wait: bool,
    timeout: float,
    node: Node,
) -> int:
    """Create VMs from a template. Their disks are clones of the template's images. The VMs are not started without
    --start or --wait."""
    from virshle.service.create import Order
    from virshle.service.create import create as create_vms

    if name == "":
        raise UsageError("the name is empty", hint="leave the name out, and v chooses one")
    vms = create_vms(node, Order(template, name, count, user_data))
    if node.dry_run:
        if begin or wait:
            click.echo("# then, for each: the steps of `v start --dry-run VM`")
        return 0
    names, unwritten = [vm.name for vm in vms], None
    try:
        print_names(names, "created")
    except (HostError, BrokenPipeError) as error:
        unwritten = error  # the VMs exist all the same, so the rest of the work is done first
    for vm in vms:
        log.note(f"created {vm.name} ({vm.id}) from {vm.template}")
    code = 0
    if begin or wait:
        code = start_all(node, [node.store.entry(vm.uuid) for vm in vms], wait=wait, timeout=timeout)
    else:
        log.note("next: v start " + (" ".join(names) if len(names) < 4 else "--all"))
    if unwritten is not None:
        raise unwritten
    return code
