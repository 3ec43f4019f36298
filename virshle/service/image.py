"""Images: disks are cloned from them, and they are built when they are needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from virshle.config.load import IMPORTED
from virshle.config.schema import ImageConfig
from virshle.disk import SECTOR, check_image
from virshle.errors import ConfigError, HostError, VirshleError
from virshle.exec import find_program
from virshle.fs import check_known
from virshle.image import RAW, Built, build_step, built, read_record, record_step, source_of
from virshle.nix import NixHost, add_root, deriver, find_nix, is_root
from virshle.plan import Apply, Plan, Step, run
from virshle.service.node import Node
from virshle.service.recipe import recipe
from virshle.service.share import note_config
from virshle.store.layout import image_link
from virshle.template import Source


def nix_of(node: Node) -> NixHost:
    """Raises ConfigError if there is no nix, or if it is too old."""
    return find_nix(node.paths.state / "nix")


def ensure_built(node: Node, name: str) -> None:
    """Builds the image if it is not built, or if it was built from another source than the configured one. Raises
    ConfigError, NotFoundError, HostError."""
    image = node.config.image(name)
    if image.path is None and not _is_current(node, image):
        build(node, name, again=False)
        return
    note_config(node)
    if image.path is None and dead_root(node, image) is not None:
        with node.apply() as apply:
            # Another process may have built it again while this one waited for the lock.
            if node.hold(apply, node.layout.image(name)) and (root := dead_root(node, image)) is not None:
                apply(Plan(name, [root]))
            apply.commit()


def dead_root(node: Node, image: ImageConfig) -> Step | None:
    """The step that makes Nix keep the image again; None if Nix keeps it. Raises ConfigError if Nix is too old."""
    link = image_link(node.layout.image(image.name))
    target = _linked(link.parent)
    # Without nix, nobody deletes what nix has built.
    if target is None or not target.exists() or is_root(link) or find_program("nix") is None:
        return None
    return add_root(nix_of(node), link, target)


def _is_current(node: Node, image: ImageConfig) -> bool:
    """True if the built image comes from the configured source. Raises ConfigError if it is not a disk image."""
    folder = node.layout.image(image.name)
    record = read_record(folder)
    if record is not None and (record.source, record.args) != (source_of(image, node.config.local), image.args):
        return False
    found = built(image.name, folder)
    return found is not None and (record is None or record.store_path == str(found.store_path))


def known_size(node: Node, name: str) -> int | None:
    """Bytes of its disk; None if it must be built first. Raises the same as `image_source`."""
    image = node.config.image(name)
    if image.path is not None:
        return check_image(node.config.local(image.path))
    there = built(name, node.layout.image(name)) if _is_current(node, image) else None
    return _size(name, there) if there else None


def is_imported(node: Node, name: str) -> bool:
    return node.config.origins["image", name] == IMPORTED


def hold_images(node: Node, apply: Apply, names: Iterable[str], *, shared: bool = False) -> list[str]:
    """Locks the folders of the images that have one, until the end of `apply`, and returns the names of those images.
    Meanwhile no other process builds or releases them.

    Every process that locks several images does it here, in the order of their names: with different orders, two
    processes could wait for each other. `shared`: to clone from the images, which several processes may do at once.
    """
    return [name for name in sorted({*names}) if _hold(node, apply, node.layout.image(name), shared=shared)]


def _hold(node: Node, apply: Apply, folder: Path, *, shared: bool) -> bool:
    while folder.is_dir():
        if node.hold(apply, folder, shared=shared):
            return True
    return False


def image_source(node: Node, name: str) -> Source:
    """The file that a disk of this image is cloned from. Raises ConfigError; HostError if the image is not built."""
    image = node.config.image(name)
    if image.path is not None:
        path = node.config.local(image.path)
        return Source(path, check_image(path), str(path), image=name, foreign=is_imported(node, name))
    there = built(name, node.layout.image(name))
    if there is None and not node.dry_run:
        raise HostError(f"image {name!r} is not built", hint=f"v image build {name} -vvv")
    found = there or _assumed(image, node.layout.image(name))
    record = read_record(node.layout.image(name))
    whole = record is not None and record.store_path == str(found.store_path)
    return Source(
        found.disk,
        # A dry run plans with the smallest possible image.
        _size(name, there) if there else SECTOR,
        record.source if record else image.source,
        image=name,
        store_path=str(found.store_path),
        pin=record.pin if record and whole else None,
        derivation=record.derivation if record and whole else None,
        kernel=found.kernel,
        initrd=found.initrd,
        cmdline=found.cmdline,
        # None: an older virshle built `tiny`, which takes no users and no cloud-config.
        takes=frozenset() if found.takes is None and image.builtin == "tiny" else found.takes,
    )


def _size(name: str, found: Built) -> int:
    """Bytes of its disk. Raises ConfigError."""
    try:
        return check_image(found.disk)
    except VirshleError as error:
        raise ConfigError(f"image {name!r} is not a disk image: {error.message}", hint=RAW) from error


def _assumed(image: ImageConfig, folder: Path) -> Built:
    """What a build will make, as far as this is known before the build."""
    result = image_link(folder)
    if image.builtin is None:
        return Built(result, result / "disk.raw")
    takes = frozenset({"users"}) if image.builtin == "tiny" else None
    return Built(result, result / "disk.raw", result / "kernel", result / "initrd", "...", takes)


@dataclass(frozen=True)
class Update:
    """Store paths; `before`: None if it was not built."""

    before: str | None
    after: str


def update(node: Node, name: str) -> Update:
    """Builds it from the current state of its source, not from what Nix has cached. Raises the same as `build`."""
    before = _linked(node.layout.image(name))
    return Update(None if before is None else str(before), build(node, name, refresh=True))


def build(node: Node, name: str, *, again: bool = True, refresh: bool = False) -> str:
    """Builds it, and returns its store path. `again`: also if it is built already; `refresh`: its flake is looked up at
    its source again. Raises ConfigError, HostError with the builder's log."""
    image = node.config.image(name)
    if image.path is not None:
        raise ConfigError(
            f"image {name!r} is a file, {image.path}: there is nothing to build",
            hint="to replace it with another file: v image delete, then v image import"
            if is_imported(node, name)
            else "",
        )
    check_known()
    nix = nix_of(node)
    folder = node.layout.image(name)
    note_config(node)
    with node.apply() as apply:
        # One process builds. Others wait, and then find the image built, or find that its folder was removed.
        while True:
            apply(Plan(name, [run("make the image's folder", "mkdir", "-p", folder)]))
            if node.hold(apply, folder):
                break
        if again or not _is_current(node, image):
            used = recipe(node, apply, image, nix, refresh=refresh)
            before = _state(image_link(folder))
            apply(Plan(name, [build_step(image, used, folder, nix, _linked(folder))]))
            target = Path("/nix/store/...") if node.dry_run else _result(name, folder, before)
            made_by = None if node.dry_run else deriver(nix, target)
            source = source_of(image, node.config.local)
            apply(Plan(name, [record_step(image, source, used, folder, nix, target, made_by)]))
        apply.commit()
    return "/nix/store/..." if node.dry_run else str(_target(folder))


def _state(link: Path) -> tuple[int, int] | None:
    """Differs after a build, because a build makes its link again."""
    try:
        found = link.lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_ctime_ns


def _linked(folder: Path) -> Path | None:
    try:
        return _target(folder)
    except OSError:
        return None


def _target(folder: Path) -> Path:
    return folder / image_link(folder).readlink()


def _result(name: str, folder: Path, before: tuple[int, int] | None) -> Path:
    """Raises HostError if the build left nothing, ConfigError if it built no disk image. `before`: the state of the
    link before this build, because an old link is not this build's result."""
    if _state(image_link(folder)) == before:
        # nix build, --out-link: the name of a link ends with the name of its output, except for the output `out`.
        others = ", ".join(sorted(path.name.removeprefix("result-") for path in folder.glob("result-*")))
        raise ConfigError(
            f"image {name!r} is not a disk image: Nix built no output `out`, but {others or 'none'}",
            hint='an image must be the output `out`: nix = "FLAKE#ATTRIBUTE.out"',
        )
    found = built(name, folder)
    if found is None:
        path = _target(folder)
        raise HostError(
            f"image {name!r} was built, but {path} does not exist, although Nix believes that it does",
            hint=f"make it again: nix-store --repair-path {quote(str(path))}; then: v image build {name}",
        )
    _size(name, found)
    return found.store_path
