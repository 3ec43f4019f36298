"""What an image is built by, and the steps that build it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from virshle.config.schema import ImageConfig
from virshle.errors import ConfigError
from virshle.fs import expand, full
from virshle.image.found import Record, record_file
from virshle.model.arch import host_arch
from virshle.model.vm import Pin
from virshle.nix import NixHost, Reference, Words, build, file_words, reference
from virshle.plan import Step, Write, run
from virshle.store.layout import image_link

NIX_FILES = Path(str(resources.files("virshle.image"))) / "tiny"
_SOURCE = Path(str(resources.files("virshle"))).parent
"""Of a source tree, the folder with the flake."""


@dataclass(frozen=True)
class Recipe:
    """What Nix is given."""

    words: Words
    pin: Pin | None = None
    parts: tuple[str, ...] = ()
    """Names of Debian packages it is made of."""
    offline: bool = False
    """Nothing of it can be had from a binary cache, so none is asked."""


def flake_of(image: ImageConfig, local: Callable[[str], Path]) -> Reference | None:
    """Of an image that a flake builds. `local` makes a path of the configuration absolute. Raises ConfigError."""
    if image.nix is not None:
        return reference(image.nix, local, whose=f"image {image.name!r}")
    return own_image("nixos") if image.builtin == "nixos" else None


def own_image(name: str) -> Reference:
    """Of virshle's own flake. Raises ConfigError."""
    return reference(f"{own_flake()}#packages.{host_arch().nix}.image-{name}", expand, whose="VIRSHLE_FLAKE")


def source_of(image: ImageConfig, local: Callable[[str], Path]) -> str:
    """What it is built from, the same for every configuration that means the same: what is built is all of theirs.
    Raises ConfigError."""
    if image.nix is not None:
        return str(flake_of(image, local))
    return str(local(image.file)) if image.file is not None else image.source


def own_flake() -> str:
    """virshle's: what the Nix package names, or the source tree's. Raises ConfigError where there is neither."""
    if told := os.environ.get("VIRSHLE_FLAKE"):
        return str(full(Path(told))) if told.startswith(".") else told
    if (_SOURCE / "flake.nix").is_file():
        return str(_SOURCE)
    raise ConfigError(
        "the built-in image 'nixos' is built by virshle's own flake, which came not with this installation",
        hint="run virshle by Nix, or export VIRSHLE_FLAKE=THE_FOLDER_OF_A_CLONE; "
        'or name an image of your own: [[image]] name = "nixos", nix = "FLAKE#ATTRIBUTE"',
    )


def file_recipe(image: ImageConfig, local: Callable[[str], Path]) -> Recipe:
    """Of an image that a Nix file builds. Raises ConfigError."""
    assert image.file is not None
    file = local(image.file)
    if not file.is_file():
        raise ConfigError(f"image {image.name!r}: there is no Nix file {file}", hint="check `file` in the [[image]]")
    return Recipe(file_words(file, image.args))


def tiny_recipe(parts: Path | None, packages: tuple[str, ...] = ()) -> Recipe:
    """Of the built-in image: of nixpkgs, or of the Debian packages whose list and unpacker are in `parts`."""
    if parts is None:
        return Recipe(file_words(NIX_FILES / "nixpkgs.nix", {}))
    words = file_words(NIX_FILES / "debian.nix", {"parts": str(parts)})
    return Recipe(words, parts=packages, offline=True)


def build_step(image: ImageConfig, recipe: Recipe, folder: Path, nix: NixHost, earlier: Path | None = None) -> Step:
    """`earlier`: what the image's link leads to. Where what was built is refused, its links are no GC roots."""
    link = image_link(folder)
    # nix build, --out-link: the links of further outputs are named after it.
    names = f"{link.name}*" if earlier is None else f"{link.name}-*"
    undo = [run("drop what was built", "find", folder, "-maxdepth", "1", "-type", "l", "-name", names, "-delete")]
    if earlier is not None:
        # Nix knows a GC root by the link's name, which is the same.
        undo.insert(0, run("have the earlier one again", "ln", "-sfT", earlier, link))
    why = f"build image {image.name}"
    return build(nix, recipe.words, link, why=why, offline=recipe.offline, undo=tuple(undo))


def record_step(
    image: ImageConfig,
    source: str,
    recipe: Recipe,
    folder: Path,
    nix: NixHost,
    store_path: Path,
    derivation: str | None = None,
) -> Step:
    """Beside the link, for people. `source`: see `source_of`."""
    record = Record(
        name=image.name,
        source=source,
        args=image.args,
        store_path=str(store_path),
        nix=".".join(map(str, nix.version)),
        built=datetime.now(UTC).replace(microsecond=0),
        parts=recipe.parts,
        pin=recipe.pin,
        derivation=derivation,
    )
    text = record.model_dump_json(indent=2) + "\n"
    return Write("note what was built", record_file(folder), text)
