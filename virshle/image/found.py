"""Reads an image's folder: the link to the built image, and the record beside the link."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pydantic import Field, ValidationError

from virshle.errors import ConfigError
from virshle.fs import read_given, read_start
from virshle.model.strict import Strict
from virshle.model.vm import Pin
from virshle.store.layout import image_link

RAW = 'build it raw (NixOS: image.format = "raw"), then: v image build NAME; or convert it: v image import FILE'
"""The hint for an image in another format."""
_DISKS = ("disk.raw", "*.raw", "*.img")


class Record(Strict):
    """image.json: what was built or imported, from what, and when. It is for people: the program uses the link or the
    disk."""

    version: int = 1
    name: str
    source: str
    args: dict[str, str] = Field(default_factory=dict)
    store_path: str
    nix: str = ""
    """The version of Nix that built it."""
    built: datetime
    parts: tuple[str, ...] = ()
    """The names of the packages that it was made from, if they did not come from nixpkgs."""
    pin: Pin | None = None
    """The flake that built it, if a flake did."""
    derivation: str | None = None


@dataclass(frozen=True)
class Built:
    """The files of a built image, found in the store."""

    store_path: Path
    disk: Path
    kernel: Path | None = None
    initrd: Path | None = None
    cmdline: str = ""
    takes: frozenset[str] | None = None
    """The parts of the seed that its guest uses: the words of the file `seed` beside the disk. None: no such file."""


def record_file(folder: Path) -> Path:
    return folder / "image.json"


def read_record(folder: Path) -> Record | None:
    try:
        return Record.model_validate_json(read_start(record_file(folder)))
    except (OSError, ValidationError):
        return None


def built(name: str, folder: Path) -> Built | None:
    """None if the image was never built, or if its store path is gone. Raises ConfigError if the result of the build is
    not an image."""
    try:
        target = folder / image_link(folder).readlink()
    except OSError:
        return None
    if not target.exists():
        return None
    _check_inside(name, target, target)
    if target.is_file():
        return Built(target, target)
    disks = next((found for pattern in _DISKS if (found := sorted(target.glob(pattern)))), [])
    if not disks and (other := sorted(path.name for path in target.glob("*.qcow2"))):
        raise ConfigError(
            f"image {name!r} is not raw: {target} has {other[0]}, and virshle clones raw disks",
            hint=RAW,
        )
    if len(disks) != 1:
        count = "no disk" if not disks else f"{len(disks)} disks: {', '.join(disk.name for disk in disks)}"
        raise ConfigError(
            f"image {name!r} is not a disk image: {target} has {count}",
            hint="it must be one raw file, or a folder with one disk.raw, *.raw or *.img; fix its Nix code, then: "
            f"v image build {name}",
        )
    _check_inside(name, target, disks[0])
    return replace(_with_kernel(name, target, disks[0]), takes=_takes(name, target))


def _check_inside(name: str, target: Path, path: Path) -> None:
    """Raises ConfigError if the path leads out of the store: a link could lead to any file of the host, and the guest
    would get that file."""
    real, store = os.path.realpath(path), os.path.realpath(target.parent)
    if not Path(real).is_relative_to(store):
        raise ConfigError(
            f"image {name!r} is not a disk image: {path} leads out of {store}, to {real}",
            hint=f"the file itself must be in the Nix store; fix its Nix code, then: v image build {name}",
        )


def _with_kernel(name: str, target: Path, disk: Path) -> Built:
    kernel, initrd, cmdline = (target / part for part in ("kernel", "initrd", "cmdline"))
    there = [part.exists() for part in (kernel, initrd, cmdline)]
    if not any(there):
        return Built(target, disk)
    if not all(there):
        raise ConfigError(
            f"image {name!r} is not complete: {target} has only some of kernel, initrd and cmdline",
            hint="give all three for direct kernel boot, or none of them to boot with firmware",
        )
    for part in (kernel, initrd, cmdline):
        _check_inside(name, target, part)
    for part in (kernel, initrd):
        if not part.is_file():
            raise ConfigError(
                f"image {name!r} is not a disk image: {part} is not a regular file",
                hint="check the Nix code of the image",
            )
    return Built(target, disk, kernel, initrd, _cmdline(name, cmdline))


def _cmdline(name: str, file: Path) -> str:
    """Raises ConfigError."""
    try:
        return read_given(file, patience=0).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"image {name!r} is not a disk image: {file} cannot be read: {why}",
            hint="this file must have the kernel's command line",
        ) from error


def _takes(name: str, target: Path) -> frozenset[str] | None:
    file = target / "seed"
    if not file.is_file():
        return None
    _check_inside(name, target, file)
    return frozenset(read_start(Path(os.path.realpath(file))).split())
