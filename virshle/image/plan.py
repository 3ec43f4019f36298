"""The steps that build an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from virshle.config.schema import ImageConfig
from virshle.errors import ConfigError
from virshle.image.found import Record, link, record_file
from virshle.nix import NixHost, build_expression_file, build_flake
from virshle.plan import Step, Write

NIX_FILES = Path(str(resources.files("virshle.image"))) / "tiny"


def build_steps(image: ImageConfig, folder: Path, nix: NixHost, local: Callable[[str], Path]) -> list[Step]:
    """For an image of a flake or a Nix file. `local` makes a path of the configuration absolute."""
    why = f"build image {image.name}"
    if image.nix is not None:
        if "#" not in image.nix:
            raise ConfigError(
                f"image {image.name!r}: nix = {image.nix!r} names no attribute",
                hint='write FLAKE#ATTRIBUTE, for example ".#packages.x86_64-linux.image"',
            )
        return [build_flake(nix, image.nix, link(folder), why=why)]
    assert image.file is not None
    file = local(image.file)
    if not file.is_file():
        raise ConfigError(f"image {image.name!r}: there is no Nix file {file}", hint="check `file` in the [[image]]")
    return [build_expression_file(nix, file, image.args, link(folder), why=why)]


def tiny_steps(folder: Path, nix: NixHost, arguments: Mapping[str, str], file: str, *, offline: bool) -> list[Step]:
    """The built-in image. `offline`: nothing of it can be had from a binary cache, so none is asked."""
    file_path = NIX_FILES / file
    return [build_expression_file(nix, file_path, arguments, link(folder), why="build image tiny", offline=offline)]


def record_step(image: ImageConfig, folder: Path, nix: NixHost, store_path: Path, parts: tuple[str, ...]) -> Step:
    """Beside the link, for people."""
    record = Record(
        name=image.name,
        source=image.source,
        args=image.args,
        store_path=str(store_path),
        nix=".".join(map(str, nix.version)),
        built=datetime.now(UTC).replace(microsecond=0),
        parts=parts,
    )
    text = record.model_dump_json(indent=2) + "\n"
    return Write("note what was built", record_file(folder), text)
