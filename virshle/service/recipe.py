"""What an image is built by now: its flake as it is at this moment, its Nix file, or the parts of `tiny`."""

from __future__ import annotations

from pathlib import Path

from virshle.config.schema import ImageConfig
from virshle.errors import ConfigError, HostError
from virshle.exec import Command, find_program, spawn_ok
from virshle.fs import read_start
from virshle.image import Recipe, file_recipe, flake_of, tiny_recipe
from virshle.image.debian import Package, have_apt, parts_steps, pin, resolve, update_lists
from virshle.model.arch import host_arch
from virshle.nix import NixHost, flake_words, look_up
from virshle.plan import Apply, Plan, Silent
from virshle.service.node import Node


def recipe(node: Node, apply: Apply, image: ImageConfig, nix: NixHost, *, refresh: bool) -> Recipe:
    """For who will build it: what it is made of is fetched. `refresh`: a flake is asked for at its source. Raises
    ConfigError, HostError."""
    if image.builtin != "tiny":
        return _own_recipe(node, image, nix, refresh=refresh)
    if _have_nixpkgs():
        return tiny_recipe(None)
    parts = _parts(node, image)
    packages = _packages(node, apply)
    if packages is not None and not _pinned(parts, packages):
        apply(Plan(image.name, parts_steps(packages, parts)))
    return tiny_recipe(parts, _names(packages or ()))


def recipe_now(node: Node, image: ImageConfig, nix: NixHost) -> Recipe | None:
    """For who only asks, always at the source: nothing is fetched but what Nix must read. None where the parts of what
    is built are not those of now. Raises ConfigError, HostError."""
    if image.builtin != "tiny":
        return _own_recipe(node, image, nix, refresh=True)
    if _have_nixpkgs():
        return tiny_recipe(None)
    parts, packages = _parts(node, image), resolve(host_arch())
    return tiny_recipe(parts, _names(packages)) if packages and _pinned(parts, packages) else None


def _own_recipe(node: Node, image: ImageConfig, nix: NixHost, *, refresh: bool) -> Recipe:
    wanted = flake_of(image, node.config.local)
    if wanted is None:
        return file_recipe(image, node.config.local)
    if node.dry_run is not None:
        node.dry_run(f"# then: pin {wanted.flake} to what `nix flake metadata` says it is, and build that")
        return Recipe(flake_words(str(wanted)))
    pinned = look_up(nix, wanted, node.progress or Silent(), refresh=refresh)
    return Recipe(flake_words(pinned.installable), pin=pinned)


def _have_nixpkgs() -> bool:
    return find_program("nix-instantiate") is not None and spawn_ok(
        Command(("nix-instantiate", "--find-file", "nixpkgs"))
    )


def _parts(node: Node, image: ImageConfig) -> Path:
    """Raises ConfigError where there is no apt to name them."""
    if not have_apt():
        raise ConfigError(
            "image 'tiny' needs its parts from nixpkgs, which NIX_PATH does not name, or from Debian's apt",
            hint="give nix a nixpkgs: nix-channel --add ...; nix-channel --update",
        )
    return node.layout.image(image.name) / "parts"


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


def _names(packages: list[Package] | tuple[()]) -> tuple[str, ...]:
    return tuple(package.file.removesuffix(".deb") for package in packages)


def _pinned(parts: Path, packages: list[Package]) -> bool:
    """Whether the parts of the last build are these."""
    try:
        return read_start(parts / "parts.json", 2**20) == pin(packages) and (parts / "busybox/bin/busybox").exists()
    except OSError:
        return False
