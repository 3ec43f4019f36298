"""What an image is built from: its flake in its current state, its Nix file, or the parts of `tiny`."""

from __future__ import annotations

from pathlib import Path

from virshle.config.schema import ImageConfig
from virshle.errors import ConfigError, HostError
from virshle.exec import Command, find_program, spawn_ok
from virshle.fs import read_start
from virshle.image import Recipe, file_recipe, flake_of, own_image, tiny_recipe
from virshle.image.debian import Package, have_apt, parts_steps, pin, resolve, update_lists
from virshle.model.arch import host_arch
from virshle.nix import NixHost, Reference, flake_words, look_up
from virshle.plan import Apply, Plan, Silent
from virshle.service.node import Node


def recipe(node: Node, apply: Apply, image: ImageConfig, nix: NixHost, *, refresh: bool) -> Recipe:
    """For a build: everything that it needs is fetched. `refresh`: a flake is looked up at its source again, not in
    Nix's cache. Raises ConfigError, HostError."""
    if image.builtin != "tiny":
        return _own_recipe(node, image, nix, refresh=refresh)
    if (alone := _tiny_without_apt(node, nix, refresh=refresh)) is not None:
        return alone
    parts = node.layout.image(image.name) / "parts"
    packages = _packages(node, apply)
    if packages is not None and not _pinned(parts, packages):
        apply(Plan(image.name, parts_steps(packages, parts)))
    return tiny_recipe(parts, _names(packages or ()))


def recipe_now(node: Node, image: ImageConfig, nix: NixHost) -> Recipe | None:
    """For a check, without a build: always looks at the source, and fetches only what Nix must read. None if the parts
    of the built image are not the current ones. Raises ConfigError, HostError."""
    if image.builtin != "tiny":
        return _own_recipe(node, image, nix, refresh=True)
    if (alone := _tiny_without_apt(node, nix, refresh=True)) is not None:
        return alone
    parts, packages = node.layout.image(image.name) / "parts", resolve(host_arch())
    return tiny_recipe(parts, _names(packages)) if packages and _pinned(parts, packages) else None


def _own_recipe(node: Node, image: ImageConfig, nix: NixHost, *, refresh: bool) -> Recipe:
    wanted = flake_of(image, node.config.local)
    if wanted is None:
        return file_recipe(image, node.config.local)
    return _flake_recipe(node, wanted, nix, refresh=refresh)


def _flake_recipe(node: Node, wanted: Reference, nix: NixHost, *, refresh: bool) -> Recipe:
    if node.dry_run is not None:
        node.dry_run(f"# then: pin {wanted.flake} to what `nix flake metadata` says it is, and build that")
        return Recipe(flake_words(str(wanted)))
    pinned = look_up(nix, wanted, node.progress or Silent(), refresh=refresh)
    return Recipe(flake_words(pinned.installable), pin=pinned)


def _tiny_without_apt(node: Node, nix: NixHost, *, refresh: bool) -> Recipe | None:
    """None if its parts come from Debian's apt. Raises ConfigError if no source has its parts, HostError."""
    if _have_nixpkgs():
        return tiny_recipe(None)
    if have_apt():
        return None
    try:
        wanted = own_image("tiny")
    except ConfigError as error:
        raise ConfigError(
            "image 'tiny' needs its parts from the nixpkgs that NIX_PATH names, from Debian's apt, or from the nixpkgs "
            "of virshle's own flake, but none of these exists here",
            hint="name virshle's flake: export VIRSHLE_FLAKE=THE_FOLDER_OF_A_CLONE; "
            "or give nix a nixpkgs: nix-channel --add ...; nix-channel --update",
        ) from error
    return _flake_recipe(node, wanted, nix, refresh=refresh)


def _have_nixpkgs() -> bool:
    return find_program("nix-instantiate") is not None and spawn_ok(
        Command(("nix-instantiate", "--find-file", "nixpkgs"))
    )


def _packages(node: Node, apply: Apply) -> list[Package] | None:
    """The packages; None in a dry run if apt's lists are missing. Raises HostError."""
    packages = resolve(host_arch())
    if packages is None:
        apply(Plan("apt", [update_lists()]))
        if node.dry_run is not None:
            node.dry_run("# then: fetch and unpack the packages that apt names")
            return None
        packages = resolve(host_arch())
    if packages is None:
        raise HostError("apt knows no kernel for the tiny image", hint="fix apt's sources, then: apt-get update")
    return packages


def _names(packages: list[Package] | tuple[()]) -> tuple[str, ...]:
    return tuple(package.file.removesuffix(".deb") for package in packages)


def _pinned(parts: Path, packages: list[Package]) -> bool:
    """True if the last build used these packages."""
    try:
        return read_start(parts / "parts.json", 2**20) == pin(packages) and (parts / "busybox/bin/busybox").exists()
    except OSError:
        return False
