"""Images: what disks are cloned from. Built by Nix into the store, or a file that is there."""

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
