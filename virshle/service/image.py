"""Images: built when they are wanted, listed without asking Nix, let go of when nothing names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from virshle.config.schema import ImageConfig
from virshle.disk import SECTOR, check_image
from virshle.errors import ConfigError, HostError, VirshleError
from virshle.exec import Command, find_program, spawn_ok
from virshle.fs import read_start
from virshle.image import Built, build_steps, built, link, read_record, record_step, tiny_steps
from virshle.image.debian import Package, have_apt, parts_steps, pin, resolve, update_lists
from virshle.model.arch import host_arch
from virshle.nix import NixHost, find_nix
from virshle.plan import Apply, Plan, run
from virshle.service.node import Node
from virshle.template import Source

_NIXOS = (
    "the built-in image 'nixos' needs nixpkgs and an image of your own: virshle brings none that is built",
    'build a raw EFI image of your NixOS and name it: [[image]] name = "nixos", path = "..." or nix = "FLAKE#ATTR"',
)


def ensure_built(node: Node, name: str) -> None:
    """Builds the image where it is not built, or was built from another source than is configured now. Raises
    ConfigError, NotFoundError, HostError."""
    image = node.config.image(name)
    if image.path is None and not _is_current(node, image):
        build(node, name, again=False)


def _is_current(node: Node, image: ImageConfig) -> bool:
    """Whether what is there was built from what is configured. Raises ConfigError where it is no image."""
    folder = node.layout.image(image.name)
    record = read_record(folder)
    if record is not None and (record.source, record.args) != (image.source, image.args):
        return False
    found = built(image.name, folder)
    return found is not None and (record is None or record.store_path == str(found.store_path))


def hold_image(node: Node, apply: Apply, name: str) -> None:
    """So that nobody builds it anew or lets go of it while it is cloned."""
    folder = node.layout.image(name)
    if folder.is_dir():
        node.hold(apply, folder, shared=True)


def image_source(node: Node, name: str) -> Source:
    """What a disk of this image is cloned from. Raises ConfigError, HostError where it is not built."""
    image = node.config.image(name)
    if image.path is not None:
        path = node.config.local(image.path)
        return Source(path, check_image(path), str(path), image=name)
    found = built(name, node.layout.image(name))
    if found is None and node.dry_run:
        found = _assumed(image, node.layout.image(name))
    elif found is None:
        raise HostError(f"image {name!r} is not there", hint=f"v image build {name} -vvv")
    return Source(
        found.disk,
        # A dry run plans with the least an image can be.
        check_image(found.disk) if found.disk.exists() else SECTOR,
        record.source if (record := read_record(node.layout.image(name))) else image.source,
        image=name,
        store_path=str(found.store_path),
        kernel=found.kernel,
        initrd=found.initrd,
        cmdline=found.cmdline,
    )


def _assumed(image: ImageConfig, folder: Path) -> Built:
    """What will have been built, as far as one can know before."""
    result = link(folder)
    if image.builtin is None:
        return Built(result, result / "disk.raw")
    return Built(result, result / "disk.raw", result / "kernel", result / "initrd", "...")


def build(node: Node, name: str, *, again: bool = True) -> str:
    """Where it was built to. `again`: also where it is there already. Raises ConfigError, HostError with the
    builder's log."""
    image = node.config.image(name)
    if image.path is not None:
        raise ConfigError(f"image {name!r} is a file, {image.path}: there is nothing to build")
    if image.builtin == "nixos":
        raise ConfigError(_NIXOS[0], hint=_NIXOS[1])
    nix = find_nix(node.paths.state / "nix")
    folder = node.layout.image(name)
    node.folders()
    with node.apply() as apply:
        # One builds; whoever else wants it waits, and finds it built, or finds its folder let go of.
        while True:
            apply(Plan(name, [run("make the image's folder", "mkdir", "-p", folder)]))
            if node.hold(apply, folder):
                break
        if again or not _is_current(node, image):
            parts = _build(node, apply, image, folder, nix)
            target = Path("/nix/store/...") if node.dry_run else _result(name, folder)
            apply(Plan(name, [record_step(image, folder, nix, target, parts)]))
        apply.commit()
    return "/nix/store/..." if node.dry_run else str(_result(name, folder))


def _result(name: str, folder: Path) -> Path:
    """Raises HostError where the build left nothing, ConfigError where it is no image."""
    found = built(name, folder)
    if found is None:
        raise HostError(f"image {name!r} was built and is not there", hint=f"v image build {name} -vvv")
    return found.store_path


def _build(node: Node, apply: Apply, image: ImageConfig, folder: Path, nix: NixHost) -> tuple[str, ...]:
    """The names of Debian packages it was made of, if it was."""
    if image.builtin is None:
        apply(Plan(image.name, build_steps(image, folder, nix, node.config.local)))
        return ()
    if _have_nixpkgs():
        apply(Plan(image.name, tiny_steps(folder, nix, {}, "nixpkgs.nix", offline=False)))
        return ()
    if not have_apt():
        raise ConfigError(
            "image 'tiny' needs its parts from nixpkgs, which NIX_PATH does not name, or from Debian's apt",
            hint="give nix a nixpkgs: nix-channel --add ...; nix-channel --update",
        )
    parts = folder / "parts"
    packages = _packages(node, apply)
    if packages is not None and not _pinned(parts, packages):
        apply(Plan(image.name, parts_steps(packages, parts)))
    apply(Plan(image.name, tiny_steps(folder, nix, {"parts": str(parts)}, "debian.nix", offline=True)))
    return tuple(package.file.removesuffix(".deb") for package in packages or ())


def _packages(node: Node, apply: Apply) -> list[Package] | None:
    """None in a dry run that cannot know them before apt's lists are there. Raises HostError."""
    packages = resolve(host_arch())
    if packages is None:
        apply(Plan("apt", [update_lists()]))
        if node.dry_run is not None:
            node.dry_run("# then: fetch and unpack the packages that apt names")
            return None
        packages = resolve(host_arch())
    if packages is None:
        raise HostError("apt knows no kernel for the tiny image", hint="mend apt's sources, then: apt-get update")
    return packages


def _pinned(parts: Path, packages: list[Package]) -> bool:
    """Whether the parts of the last build are these."""
    try:
        return read_start(parts / "parts.json", 2**20) == pin(packages) and (parts / "busybox/bin/busybox").exists()
    except OSError:
        return False


def _have_nixpkgs() -> bool:
    return find_program("nix-instantiate") is not None and spawn_ok(
        Command(("nix-instantiate", "--find-file", "nixpkgs"))
    )


def image_rows(node: Node) -> list[dict[str, Any]]:
    """A row per image; sizes in bytes. No evaluation, no build."""
    users: dict[str, list[str]] = {}
    for entry in node.store.entries():
        if entry.summary and entry.summary.image:
            users.setdefault(entry.summary.image, []).append(entry.name)
    return [
        {**_row(node, image), "used_by": " ".join(users.get(name, [])) or None}
        for name, image in node.config.images.items()
    ]


def _row(node: Node, image: ImageConfig) -> dict[str, Any]:
    folder = node.layout.image(image.name)
    row: dict[str, Any] = {"name": image.name, "built": False, "size": None, "virtual": None}
    row |= {"source": image.source, "store_path": None, "when": None, "problem": None}
    try:
        if image.path is not None:
            path = node.config.local(image.path)
            return row | _sizes(path) | {"built": True}
        found = built(image.name, folder)
    except VirshleError as error:
        return row | {"problem": error.message}
    if found is None:
        return row
    record = read_record(folder)
    when = record.built.strftime("%Y-%m-%d %H:%M") if record else None
    return row | _sizes(found.disk) | {"built": True, "store_path": str(found.store_path), "when": when}


def _sizes(path: Path) -> dict[str, int]:
    virtual = check_image(path)
    return {"size": path.stat().st_blocks * 512, "virtual": virtual}


def collect(node: Node) -> list[str]:
    """Names of the images let go of: built, and named by no template any more."""
    wanted = {disk.image for template in node.config.templates.values() for disk in template.disk}
    folders = node.layout.images
    # Ours are those that were built here: a folder with our link.
    there = list(folders.iterdir()) if folders.is_dir() else []
    built_here = [path for path in there if link(path).is_symlink() and not path.is_symlink()]
    gone = []
    with node.apply() as apply:
        for name in sorted(path.name for path in built_here):
            if name in wanted and name in node.config.images and node.config.images[name].path is None:
                continue
            folder = node.layout.image(name)
            # Whoever clones from it or builds it holds its lock.
            node.hold(apply, folder)
            apply(Plan(name, [run("let go of the image", "rm", "-rf", "--one-file-system", "--", folder)]))
            gone.append(name)
        apply.commit()
    return gone
