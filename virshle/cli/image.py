"""`v image`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from virshle.cli.complete import IMAGE
from virshle.cli.group import Group
from virshle.cli.lifecycle import DECLINED, confirmed, each, told
from virshle.cli.options import changing, formatted, with_node
from virshle.cli.output import Row, print_names, print_rows

if TYPE_CHECKING:
    from virshle.service.node import Node


_DEFAULT = ("name", "built", "size", "virtual", "revision", "source", "when")
_COLUMNS = (*_DEFAULT, "current", "locked", "store_path", "used_by", "problem")
CHECK = "Look at the sources too, which takes a while: is what is built what would be built now?"


def shown(default: Sequence[str], rows: Sequence[Row], *, check: bool) -> list[str]:
    """The columns of a table: also what was asked for, and problems where there are some."""
    problem = any(row["problem"] for row in rows)
    return [*default, *(["current"] if check else []), *(["problem"] if problem else [])]


@click.group(cls=Group)
def image() -> None:
    """What disks are cloned from."""


@image.command("ls", epilog="\b\nExamples:\n  v image ls\n  v image ls --check\n  v image ls -c name,store_path,locked")
@click.option("--check", is_flag=True, help=CHECK)
@formatted(_COLUMNS)
@with_node
def ls(check: bool, form: str, columns: str | None, quiet: bool, node: Node) -> None:
    """List the images: built or not, their sizes, where they come from."""
    from virshle.service.image_list import image_rows

    rows = image_rows(node, check=check)
    print_rows(
        rows,
        form=form,
        columns=columns,
        default=shown(_DEFAULT, rows, check=check),
        known=_COLUMNS,
        quiet=quiet,
        bytes_in=("size", "virtual"),
    )


@image.command(epilog="\b\nExamples:\n  v image build tiny\n  v image build tiny -vvv")
@click.argument("names", nargs=-1, shell_complete=IMAGE, required=True, metavar="NAME...")
@changing
def build(names: tuple[str, ...], node: Node) -> None:
    """Build images by Nix; `create` does so by itself when one is missing."""
    from virshle.service import image as images

    for name in names:
        node.config.image(name)
    for name in names:
        built = images.build(node, name)
        if node.dry_run is None:
            told(f"built {name}: {built}")


@image.command(epilog="\b\nExamples:\n  v image update            every image that is built\n  v image update web")
@click.argument("names", nargs=-1, shell_complete=IMAGE, metavar="[NAME]...")
@changing
def update(names: tuple[str, ...], node: Node) -> int:
    """Build images anew whose source has changed. VMs keep what they have; `v ls` says which are outdated."""
    from virshle.service.image_list import image_rows

    wanted = names or [row["name"] for row in image_rows(node) if row["store_path"]]
    if not wanted:
        told("no image is built: nothing to update")
    return each([node.config.image(name) for name in wanted], lambda image: _update(node, image.name))


def _update(node: Node, name: str) -> None:
    from virshle.service import image as images

    done = images.update(node, name)
    if node.dry_run is not None:
        return
    if done.before == done.after:
        told(f"{name} is current")
    else:
        told(f"updated {name}: {done.before or 'not built'} -> {done.after}")


@image.command(
    "import",
    epilog="\b\nExamples:\n  v image import debian-12-generic-amd64.qcow2\n  v image import disk.raw --name own",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Its name; else the file's, without its ending.")
@changing
def import_(file: Path, name: str | None, node: Node) -> None:
    """Take in another system's cloud image, raw or qcow2; a template may then name it."""
    from virshle.service.image_import import import_image

    name = import_image(node, file, name)
    if node.dry_run is None:
        print_names([name], "imported")
        told(f'imported {name}; next: a template with a disk of image = "{name}"')


@image.command(epilog="\b\nExamples:\n  v image delete debian-12-generic-amd64")
@click.argument("names", nargs=-1, shell_complete=IMAGE, required=True, metavar="NAME...")
@click.option(
    "--force",
    is_flag=True,
    help="Also where VMs were made of it, which keep their own copies, or another configuration names it.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@changing
def delete(names: tuple[str, ...], force: bool, yes: bool, node: Node) -> int:
    """Delete images that were imported or built, and no template names. On a terminal it asks first."""
    from virshle.service.image_import import check_images_deletable, delete_images

    for name in names:
        node.config.image(name)
    check_images_deletable(node, names, force=force)
    if node.dry_run is None and not yes and not confirmed("image", names):
        return DECLINED
    delete_images(node, names, force=force)
    if node.dry_run is None:
        told(f"deleted {', '.join(names)}")
    return 0


@image.command(epilog="\b\nExamples:\n  v image gc --dry-run      what would go, and how large it is\n  v image gc")
@changing
def gc(node: Node) -> None:
    """Let go of built images that no template names, under any configuration, and no VM was made of."""
    from virshle.service.image_gc import collect

    done = collect(node)
    if node.dry_run is None:
        gone = ", ".join(done.gone)
        told(f"let go of {gone}; `nix-store --gc` frees their space" if gone else "nothing to let go of")
    for name, why in done.kept.items():
        told(f"kept {name}, which no template names here: {why}")
