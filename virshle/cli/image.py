"""`v image`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from virshle import log
from virshle.cli.complete import IMAGE
from virshle.cli.group import Group
from virshle.cli.lifecycle import DECLINED, confirmed, each
from virshle.cli.options import changing, formatted, with_node
from virshle.cli.output import Row, print_names, print_rows

if TYPE_CHECKING:
    from virshle.service.node import Node


_DEFAULT = ("name", "built", "size", "virtual", "revision", "source", "when")
_COLUMNS = (*_DEFAULT, "current", "locked", "store_path", "used_by", "problem")
CHECK = "Also check if a build now would give the same image. This reads the sources, and takes a while."


def shown(default: Sequence[str], rows: Sequence[Row], *, check: bool) -> list[str]:
    """The columns of a table: the default ones, `current` with --check, and `problem` if an image has one."""
    problem = any(row["problem"] for row in rows)
    return [*default, *(["current"] if check else []), *(["problem"] if problem else [])]


@click.group(cls=Group)
def image() -> None:
    """The images: the disks of VMs are cloned from them."""


@image.command("ls", epilog="\b\nExamples:\n  v image ls\n  v image ls --check\n  v image ls -c name,store_path,locked")
@click.option("--check", is_flag=True, help=CHECK)
@formatted(_COLUMNS)
@with_node
def ls(check: bool, form: str, columns: str | None, quiet: bool, node: Node) -> None:
    """List the images: if they are built, their sizes, and where they come from."""
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
    """Build images with Nix. `v create` builds a missing image by itself."""
    from virshle.service import image as images

    for name in names:
        node.config.image(name)
    for name in names:
        built = images.build(node, name)
        if node.dry_run is None:
            log.note(f"built {name}: {built}")


@image.command(epilog="\b\nExamples:\n  v image update            all images that are built\n  v image update web")
@click.argument("names", nargs=-1, shell_complete=IMAGE, metavar="[NAME]...")
@changing
def update(names: tuple[str, ...], node: Node) -> int:
    """Build images again if their source has changed. VMs keep their disks; `v ls` says which VMs are outdated."""
    from virshle.service.image_list import image_rows

    wanted = names or [row["name"] for row in image_rows(node) if row["store_path"]]
    if not wanted:
        log.note("no image is built: nothing to update")
    return each([node.config.image(name) for name in wanted], lambda image: _update(node, image.name))


def _update(node: Node, name: str) -> None:
    from virshle.service import image as images

    done = images.update(node, name)
    if node.dry_run is not None:
        return
    if done.before == done.after:
        log.note(f"{name} is current")
    else:
        log.note(f"updated {name}: {done.before or 'not built'} -> {done.after}")


@image.command(
    "import",
    epilog="\b\nExamples:\n  v image import debian-12-generic-amd64.qcow2\n  v image import disk.raw --name own",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="The name of the image. Without it: the name of the file, without its ending.")
@changing
def import_(file: Path, name: str | None, node: Node) -> None:
    """Import a cloud image of another system, raw or qcow2. Templates may then name it."""
    from virshle.service.image_import import import_image

    name = import_image(node, file, name)
    if node.dry_run is None:
        print_names([name], "imported")
        log.note(f'imported {name}; next: a template with a disk of image = "{name}"')


@image.command(epilog="\b\nExamples:\n  v image delete debian-12-generic-amd64")
@click.argument("names", nargs=-1, shell_complete=IMAGE, required=True, metavar="NAME...")
@click.option(
    "--force",
    is_flag=True,
    help="Also delete images that VMs were created from (the VMs keep their own copies), or that another "
    "configuration names.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@changing
def delete(names: tuple[str, ...], force: bool, yes: bool, node: Node) -> int:
    """Delete imported or built images that no template names. On a terminal, v asks first."""
    from virshle.service.image_import import check_images_deletable, delete_images

    check_images_deletable(node, names, force=force)
    if node.dry_run is None and not yes and not confirmed("image", names):
        return DECLINED
    delete_images(node, names, force=force)
    if node.dry_run is None:
        log.note(f"deleted {', '.join(names)}")
    return 0


@image.command(epilog="\b\nExamples:\n  v image gc --dry-run      what would be released, and its size\n  v image gc")
@changing
def gc(node: Node) -> None:
    """Release built images that no VM was created from, and that no template of any configuration names. Nix may then
    delete them."""
    from virshle.service.image_gc import collect

    done = collect(node)
    if node.dry_run is None:
        gone = ", ".join(done.gone)
        log.note(f"released {gone}; `nix-store --gc` frees their space" if gone else "no image to release")
    for name, why in done.kept.items():
        log.note(f"kept {name}, which no template of this configuration names: {why}")
