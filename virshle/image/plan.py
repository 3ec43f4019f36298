"""How an image is built: its recipe, and the steps of the build."""

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
"""The folder with the flake, if virshle runs from a source tree."""


@dataclass(frozen=True)
class Recipe:
    """The input of Nix for one image."""

    words: Words
    pin: Pin | None = None
    parts: tuple[str, ...] = ()
    """The names of the Debian packages that it is made from."""
    offline: bool = False
    """True if no binary cache can have any part of it. Then no cache is asked."""


def flake_of(image: ImageConfig, local: Callable[[str], Path]) -> Reference | None:
    """The flake reference of an image. None if no flake builds the image. `local` makes a path in the configuration
    absolute. Raises ConfigError."""
    if image.nix is not None:
        return reference(image.nix, local, whose=f"image {image.name!r}")
    return own_image("nixos") if image.builtin == "nixos" else None


def own_image(name: str) -> Reference:
    """The reference of an image in virshle's own flake. Raises ConfigError."""
    return reference(f"{own_flake()}#packages.{host_arch().nix}.image-{name}", expand, whose="VIRSHLE_FLAKE")


def source_of(image: ImageConfig, local: Callable[[str], Path]) -> str:
    """The source of the image. It is the same text in every configuration that means the same source, because these
    configurations share the built image. Raises ConfigError."""
    if image.nix is not None:
        return str(flake_of(image, local))
    return str(local(image.file)) if image.file is not None else image.source


def own_flake() -> str:
    """virshle's own flake: the one that the Nix package names, or the one of the source tree.

    Raises ConfigError if there is neither."""
    if told := os.environ.get("VIRSHLE_FLAKE"):
        return str(full(Path(told))) if told.startswith(".") else told
    if (_SOURCE / "flake.nix").is_file():
        return str(_SOURCE)
    raise ConfigError(
        "virshle's own flake builds the built-in image 'nixos', and this installation does not have that flake",
        hint="run virshle with Nix, or export VIRSHLE_FLAKE=THE_FOLDER_OF_A_CLONE; "
        'or define your own image: [[image]] name = "nixos", nix = "FLAKE#ATTRIBUTE"',
    )


def file_recipe(image: ImageConfig, local: Callable[[str], Path]) -> Recipe:
    """The recipe of an image that a Nix file builds. Raises ConfigError."""
    assert image.file is not None
    file = local(image.file)
    if not file.is_file():
        raise ConfigError(f"image {image.name!r}: there is no Nix file {file}", hint="check `file` in the [[image]]")
    return Recipe(file_words(file, image.args))


def tiny_recipe(parts: Path | None, packages: tuple[str, ...] = ()) -> Recipe:
    """The recipe of the built-in image `tiny`. `parts`: the folder with the list of Debian packages and with busybox;
    without it, the parts come from nixpkgs."""
    if parts is None:
        return Recipe(file_words(NIX_FILES / "nixpkgs.nix", {}))
    words = file_words(NIX_FILES / "debian.nix", {"parts": str(parts)})
    return Recipe(words, parts=packages, offline=True)


def build_step(image: ImageConfig, recipe: Recipe, folder: Path, nix: NixHost, earlier: Path | None = None) -> Step:
    """The step that builds the image. `earlier`: the store path that the image's link leads to before the build. If the
    result is refused, the undo removes its links, so they are not GC roots."""
    link = image_link(folder)
    # `nix build --out-link` names the links of further outputs after this link.
    names = f"{link.name}*" if earlier is None else f"{link.name}-*"
    undo = [run("remove the new links", "find", folder, "-maxdepth", "1", "-type", "l", "-name", names, "-delete")]
    if earlier is not None:
        # Nix knows a GC root by the name of the link, which stays the same.
        undo.insert(0, run("lead the link to the earlier image again", "ln", "-sfT", earlier, link))
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
    """Writes the record beside the link, for people. `source`: see `source_of`."""
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
    return Write("write what was built", record_file(folder), text)
