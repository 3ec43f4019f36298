"""`v image ls`, `v image build`, `v image gc`."""

from __future__ import annotations

import click

from virshle.cli.lifecycle import told
from virshle.cli.options import changing, formatted, with_node
from virshle.cli.output import print_rows
from virshle.service import image as images
from virshle.service.node import Node

_COLUMNS = ("name", "built", "size", "virtual", "source", "store_path", "when", "used_by", "problem")
_DEFAULT = ("name", "built", "size", "virtual", "source", "when")


@click.group()
def image() -> None:
    """What disks are cloned from."""


@image.command("ls", epilog="\b\nExamples:\n  v image ls\n  v image ls -c name,store_path")
@formatted
@with_node
def ls(form: str, columns: str | None, quiet: bool, node: Node) -> None:
    """List the images: built or not, their sizes, where they come from."""
    rows = images.image_rows(node)
    default = (*_DEFAULT, "problem") if any(row["problem"] for row in rows) else _DEFAULT
    print_rows(
        rows,
        form=form,
        columns=columns,
        default=default,
        known=_COLUMNS,
        quiet=quiet,
        bytes_in=("size", "virtual"),
    )


@image.command(epilog="\b\nExamples:\n  v image build tiny\n  v image build tiny -vvv")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@changing
def build(names: tuple[str, ...], node: Node) -> None:
    """Build images by Nix; `create` does so by itself when one is missing."""
    for name in names:
        node.config.image(name)
    for name in names:
        built = images.build(node, name)
        if node.dry_run is None:
            told(f"built {name}: {built}")


@image.command(epilog="\b\nExamples:\n  v image gc --dry-run\n  v image gc")
@changing
def gc(node: Node) -> None:
    """Let go of built images that no template names; VMs have their own copies and lose nothing."""
    gone = images.collect(node)
    if node.dry_run is None:
        told(f"let go of {', '.join(gone)}; `nix-store --gc` frees their space" if gone else "nothing to let go of")
