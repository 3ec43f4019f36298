from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.service.conftest import FakeNix
from virshle.errors import ConfigError, HostError, NotFoundError
from virshle.exec import Command, Result
from virshle.fs import Lock, try_lock
from virshle.image import read_record
from virshle.image.found import record_file
from virshle.model.vm import Pin
from virshle.plan import Apply
from virshle.service.create import Order, create
from virshle.service.image import Update, build, ensure_built, hold_images, image_source, update
from virshle.service.image_gc import collect
from virshle.service.image_import import delete_images
from virshle.service.image_list import image_rows
from virshle.service.node import Node
from virshle.store import Layout
from virshle.store.layout import image_link


@pytest.fixture
def node(images: Node) -> Node:
    return images


def test_an_image_is_built_when_it_is_wanted_and_once(node: Node, nix: FakeNix, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="is not built"):
        image_source(node, "flake")
    ensure_built(node, "flake")
    source = image_source(node, "flake")
    assert (source.path, source.size, source.image) == (tmp_path / "store-path/disk.raw", 1024, "flake")
    assert (source.described, source.store_path) == (f"{tmp_path}#x", str(tmp_path / "store-path"))
    ensure_built(node, "flake")
    assert len(nix) == 1


def test_what_was_built_is_noted(node: Node, nix: FakeNix, layout: Layout, tmp_path: Path) -> None:
    assert build(node, "flake") == str(tmp_path / "store-path")
    record = read_record(layout.image("flake"))
    assert record is not None
    assert (record.source, record.store_path, record.nix) == (f"{tmp_path}#x", str(tmp_path / "store-path"), "2.18")
    assert record.pin == _pin(node, nix)
    source = image_source(node, "flake")
    assert (source.pin, source.derivation) == (record.pin, "/nix/store/x.drv")


def _pin(node: Node, nix: FakeNix) -> Pin:
    flake = f"git+file://{node.paths.config.parent}"
    locked = f"{flake}?rev={nix.revision}"
    return Pin(flake=flake, locked=locked, attribute="x", nar_hash="sha256-x", revision=nix.revision)


def test_what_is_noted_is_what_is_built(node: Node, nix: FakeNix) -> None:
    build(node, "flake")
    assert nix[0].argv[-1] == _pin(node, nix).installable
    assert nix[0].argv[-1].endswith("?rev=0123456789abcdef0123#x")


def test_a_pin_is_not_taken_for_that_of_another_build(node: Node, nix: FakeNix, layout: Layout, tmp_path: Path) -> None:
    build(node, "flake")
    nix.build("by-hand")
    image_link(layout.image("flake")).unlink()
    image_link(layout.image("flake")).symlink_to(nix.store)
    assert image_source(node, "flake").pin is None
    rows = {row["name"]: row for row in image_rows(node)}
    assert (rows["flake"]["built"], rows["flake"]["revision"], rows["flake"]["when"]) == (True, None, None)


def test_an_update_tells_from_what_to_what(node: Node, nix: FakeNix, tmp_path: Path) -> None:
    first = str(tmp_path / "store-path")
    assert update(node, "flake") == Update(None, first)
    assert update(node, "flake") == Update(first, first)
    nix.build("second")
    assert update(node, "flake") == Update(first, str(tmp_path / "second"))
    assert all("--refresh" in argv for argv in nix.asked)


def test_a_failed_build_leaves_the_old_one(
    node: Node, nix: FakeNix, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(node, "flake")

    def fail(*_: object, **__: object) -> None:
        raise HostError("nix failed")

    monkeypatch.setattr("virshle.exec.follow", fail)
    with pytest.raises(HostError, match="nix failed"):
        build(node, "flake")
    assert image_link(layout.image("flake")).is_symlink()
    assert image_source(node, "flake").size == 1024


def test_a_refused_build_leaves_no_root_and_the_one_before(node: Node, nix: FakeNix, layout: Layout) -> None:
    link = image_link(layout.image("flake"))
    good, bad = nix.store, nix.folder / "odd"
    bad.mkdir()
    nix.store = bad
    with pytest.raises(ConfigError, match="is not a disk image"):
        build(node, "flake")
    assert not link.is_symlink()
    nix.store = good
    build(node, "flake")
    nix.store = bad
    with pytest.raises(ConfigError, match="is not a disk image"):
        build(node, "flake")
    assert link.readlink() == good
    assert image_source(node, "flake").store_path == str(good)


def test_a_build_that_made_no_link_is_not_taken_for_the_one_before(
    node: Node, nix: FakeNix, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(node, "flake")
    before = read_record(layout.image("flake"))

    def other_output(command: Command, *_: object, **__: object) -> Result:
        if "--out-link" not in command.argv:
            return nix.follow(command, print)
        (layout.image("flake") / "result-dev").symlink_to(nix.store)
        return Result(command, 0, "", "", 0.1)

    monkeypatch.setattr("virshle.exec.follow", other_output)
    with pytest.raises(ConfigError, match="no output `out`, but dev"):
        build(node, "flake")
    assert read_record(layout.image("flake")) == before


def test_what_nix_takes_to_be_there_and_is_not_is_told_with_what_mends_it(node: Node, nix: FakeNix) -> None:
    shutil.rmtree(nix.store)
    with pytest.raises(HostError, match="does not exist, although Nix believes") as caught:
        build(node, "flake")
    assert f"nix-store --repair-path {nix.store}" in caught.value.hint


def test_a_file_is_taken_as_it_is(node: Node, nix: FakeNix, tmp_path: Path) -> None:
    assert image_source(node, "file").path == tmp_path / "file.raw"
    with pytest.raises(ConfigError, match="there is nothing to build"):
        build(node, "file")
    assert nix == []


def test_the_built_in_nixos_says_what_it_needs(
    node: Node, nix: FakeNix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virshle.image.plan._SOURCE", tmp_path)
    with pytest.raises(ConfigError) as caught:
        build(node, "nixos")
    assert "[[image]]" in caught.value.hint
    monkeypatch.setenv("VIRSHLE_FLAKE", "path:/v")
    build(node, "nixos")
    assert nix[0].argv[-1].endswith(".image-nixos")


def test_an_unknown_image_is_not_found(node: Node) -> None:
    with pytest.raises(NotFoundError) as caught:
        image_source(node, "flaek")
    assert "flake" in caught.value.hint


def test_a_dry_build_does_nothing(node: Node, nix: FakeNix, layout: Layout) -> None:
    shown: list[str] = []
    build(replace(node, dry_run=shown.append), "flake")
    assert any("nix build" in text for text in shown)
    assert nix == []
    assert list(layout.images.iterdir()) == []


def test_what_another_configuration_means_by_the_same_words_is_built(
    node: Node, nix: FakeNix, layout: Layout, tmp_path: Path
) -> None:
    build(node, "flake")
    other = tmp_path / "other/config.toml"
    other.parent.mkdir()
    other.write_text(layout.paths.config.read_text())
    builds = len(nix)
    ensure_built(node, "flake")
    assert len(nix) == builds
    ensure_built(Node(replace(layout.paths, config=other)), "flake")
    assert len(nix) == builds + 1


def _configure(layout: Layout, tmp_path: Path, image: str) -> Node:
    (tmp_path / "x.nix").write_text("")
    layout.paths.config.write_text(f'[[image]]\nname = "x"\n{image}\n')
    return Node(layout.paths)


def test_an_image_of_another_source_or_other_arguments_is_built_anew(
    node: Node, nix: FakeNix, layout: Layout, tmp_path: Path
) -> None:
    file = f'file = "{tmp_path / "x.nix"}"'
    for image in ('nix = ".#a"', 'nix = ".#b"', file, f'{file}\nargs = {{a = "1"}}', f'{file}\nargs = {{a = "2"}}'):
        before = len(nix)
        for _ in range(2):
            configured = _configure(layout, tmp_path, image)
            ensure_built(configured, "x")
            assert len(nix) == before + 1, image
    record = read_record(layout.image("x"))
    assert record is not None
    assert record.args == {"a": "2"}


def test_an_image_without_a_record_is_taken_for_what_is_configured(node: Node, nix: FakeNix, layout: Layout) -> None:
    build(node, "flake")
    record_file(layout.image("flake")).unlink()
    ensure_built(node, "flake")
    assert len(nix) == 1


def test_a_build_that_is_asked_for_is_done_again(node: Node, nix: FakeNix) -> None:
    build(node, "flake")
    build(node, "flake")
    assert len(nix) == 2
    build(node, "flake", again=False)
    assert len(nix) == 2


def test_who_waited_for_a_build_finds_it_built(
    node: Node, nix: FakeNix, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Node.hold

    def hold(self: Node, apply: Apply, folder: Path, **more: Any) -> bool:
        monkeypatch.setattr(Node, "hold", real)
        build(node, "flake")  # by another, in the meantime
        return real(self, apply, folder, **more)

    monkeypatch.setattr(Node, "hold", hold)
    ensure_built(node, "flake")
    assert len(nix) == 1


def test_an_image_is_locked_while_it_is_cloned_and_cannot_be_let_go_of(
    node: Node, nix: FakeNix, layout: Layout
) -> None:
    build(node, "flake")
    with node.apply() as apply:
        # What was never built cannot be held.
        assert hold_images(node, apply, ["tiny", "flake"], shared=True) == ["flake"]
        assert hold_images(node, apply, ["flake"], shared=True) == ["flake"]  # others may clone it too
        assert try_lock(layout.image("flake")) is None
    lock = try_lock(layout.image("flake"))
    assert lock is not None
    lock.release()


def test_whoever_locks_several_images_does_so_in_the_same_order(
    node: Node, nix: FakeNix, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two could wait for each other."""
    disks = "".join(f'[[template.vm.disk]]\nname = "{name}"\nimage = "{name}"\n' for name in ("b", "a"))
    images = "".join(f'[[image]]\nname = "{name}"\nnix = ".#x"\n' for name in ("b", "a"))
    layout.paths.config.write_text(f'{images}[[template.vm]]\nname = "two"\n{disks}')
    locked: list[str] = []
    real = Node.hold

    def hold(self: Node, apply: Apply, folder: Path, **more: Any) -> bool:
        if folder.parent == layout.images:
            locked.append(folder.name)
        return real(self, apply, folder, **more)

    def order(act: Callable[[Node], object], config: str = images) -> list[str]:
        for name in ("b", "a"):
            ensure_built(Node(layout.paths), name)
        layout.paths.config.write_text(config)
        locked.clear()
        act(Node(layout.paths))
        return locked.copy()

    monkeypatch.setattr(Node, "hold", hold)
    assert order(lambda node: create(node, Order("two", "web")), layout.paths.config.read_text()) == ["a", "b"]
    assert order(lambda node: delete_images(node, ["b", "a"], force=True)) == ["a", "b"]
    shutil.rmtree(layout.vm(Node(layout.paths).store.find("web").uuid))
    assert order(collect) == ["a", "b"]


def test_an_image_that_was_replaced_while_it_was_waited_for_is_held_all_the_same(
    node: Node, nix: FakeNix, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(node, "flake")
    folder = layout.image("flake")
    real = Node.hold

    def hold(self: Node, apply: Apply, folder: Path, **more: Any) -> bool:
        monkeypatch.setattr(Node, "hold", real)
        lock = Lock(folder)
        folder.rename(folder.with_name(".del-flake"))  # by another, who let go of it
        folder.mkdir()  # and a third wants it
        apply.hold(lock)
        return lock.still(folder)

    monkeypatch.setattr(Node, "hold", hold)
    with node.apply() as apply:
        assert hold_images(node, apply, ["flake"]) == ["flake"]
        assert try_lock(folder) is None


def test_a_relative_image_begins_in_the_folder_of_the_configuration(
    node: Node, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    near = _configure(layout, tmp_path, 'path = "file.raw"')
    assert image_source(near, "x").path == tmp_path / "file.raw"
    assert next(row for row in image_rows(near) if row["name"] == "x")["virtual"] == 512


def test_a_result_that_is_no_image_does_not_keep_another_source_from_being_built(
    node: Node, nix: FakeNix, layout: Layout, tmp_path: Path
) -> None:
    ensure_built(_configure(layout, tmp_path, 'nix = ".#a"'), "x")
    disk = tmp_path / "store-path/disk.raw"
    disk.rename(tmp_path / "kept")
    with pytest.raises(ConfigError, match="has no disk"):
        build(_configure(layout, tmp_path, 'nix = ".#bad"'), "x")
    (tmp_path / "store-path").rename(tmp_path / "bad")
    image_link(layout.image("x")).unlink()
    image_link(layout.image("x")).symlink_to(tmp_path / "bad")
    (tmp_path / "store-path").mkdir()
    (tmp_path / "kept").rename(disk)
    ensure_built(_configure(layout, tmp_path, 'nix = ".#good"'), "x")
    assert len(nix) == 3


BAD = {
    "empty": (lambda path: path.write_bytes(b""), "truncated: 0 bytes"),
    "a text": (lambda path: path.write_text("hello\n"), "is a text"),
    "qcow2": (lambda path: path.write_bytes(b"QFI\xfb" + bytes(508)), "is qcow2"),
    "a folder": (lambda path: path.mkdir(), "not a regular file"),
}


@pytest.mark.parametrize(("make", "why"), BAD.values(), ids=BAD.keys())
def test_what_is_no_image_is_refused_when_it_is_built_and_when_it_is_used(
    make: Callable[[Path], object], why: str, node: Node, nix: FakeNix, layout: Layout
) -> None:
    (nix.store / "disk.raw").unlink()
    make(nix.store / "disk.raw")
    refused = f"image 'flake' is not a disk image: .*{why}"
    with pytest.raises(ConfigError, match=refused):
        build(node, "flake")
    assert read_record(layout.image("flake")) is None
    # An earlier virshle did not refuse to build it.
    image_link(layout.image("flake")).symlink_to(nix.store)
    with pytest.raises(ConfigError, match=refused):
        image_source(node, "flake")


def test_a_build_that_was_interrupted_before_its_record_is_not_taken_for_the_old_source(
    node: Node, nix: FakeNix, layout: Layout, tmp_path: Path
) -> None:
    build(node, "flake")
    other = tmp_path / "store-path-of-another-source"
    other.mkdir()
    (other / "disk.raw").write_bytes(b"\1" * 512)
    image_link(layout.image("flake")).unlink()
    image_link(layout.image("flake")).symlink_to(other)
    ensure_built(node, "flake")
    assert len(nix) == 2


def test_a_build_that_waited_for_gc_makes_its_folder_again(
    node: Node, nix: FakeNix, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Lock._take

    def take(self: Lock, kind: int, patience: float) -> None:
        monkeypatch.setattr(Lock, "_take", real)
        self.folder.rmdir()
        real(self, kind, patience)

    monkeypatch.setattr(Lock, "_take", take)
    try:
        build(node, "flake")
    except OSError as error:
        pytest.fail(str(error))
    assert image_source(node, "flake").size == 1024
