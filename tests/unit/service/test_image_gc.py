from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.service.conftest import FakeNix
from tests.unit.support import make_vm, put_vm
from virshle.service.image import build
from virshle.service.image_gc import Collected, collect
from virshle.service.node import Node
from virshle.store import Layout
from virshle.store.layout import image_link


@pytest.fixture
def node(images: Node) -> Node:
    return images


def test_images_that_no_template_names_are_let_go_of(node: Node, nix: FakeNix, layout: Layout) -> None:
    build(node, "flake")
    (layout.image("tiny")).mkdir()
    assert collect(node) == Collected(["flake"], {})
    assert [path.name for path in layout.images.iterdir()] == ["tiny"]


def test_an_image_of_which_vms_were_made_is_kept_and_they_are_named(node: Node, nix: FakeNix, layout: Layout) -> None:
    build(node, "flake")
    put_vm(layout, make_vm(origin={"image": "flake", "source": ".#x"}))
    assert collect(node) == Collected([], {"flake": "web was created from it"})
    assert image_link(layout.image("flake")).is_symlink()


def test_a_dry_gc_tells_what_would_go_and_its_size(node: Node, nix: FakeNix, layout: Layout) -> None:
    build(node, "flake")
    shown: list[str] = []
    collect(replace(node, dry_run=shown.append))
    assert shown[0] == f"# flake: 0B on disk, {nix.store}" or "KiB on disk" in shown[0]
    assert "rm -rf" in shown[1]
    assert image_link(layout.image("flake")).is_symlink()


def test_what_a_build_left_that_failed_is_let_go_of(node: Node, layout: Layout) -> None:
    """Its name could not be given to another image."""
    (layout.images / "empty").mkdir()
    (layout.images / "tried/parts").mkdir(parents=True)
    assert collect(node) == Collected(["empty", "tried"], {})
    assert list(layout.images.iterdir()) == []


def test_what_we_did_not_build_is_not_deleted(node: Node, layout: Layout) -> None:
    (layout.images / "my-own").mkdir()
    (layout.images / "my-own" / "golden.raw").write_text("precious")
    assert collect(node) == Collected([], {})
    assert (layout.images / "my-own" / "golden.raw").exists()
