"""Images: the sources that disks are cloned from. Nix builds an image into its store, or it is an existing file."""

from virshle.image.found import RAW, Built, Record, built, read_record
from virshle.image.plan import (
    Recipe,
    build_step,
    file_recipe,
    flake_of,
    own_flake,
    own_image,
    record_step,
    source_of,
    tiny_recipe,
)

__all__ = [
    "RAW",
    "Built",
    "Recipe",
    "Record",
    "build_step",
    "built",
    "file_recipe",
    "flake_of",
    "own_flake",
    "own_image",
    "read_record",
    "record_step",
    "source_of",
    "tiny_recipe",
]
