"""What several configurations over one state name is kept for all of them."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import FakeNix
from virshle.errors import ConflictError
from virshle.service.create import Order, create
from virshle.service.image import build, ensure_built
from virshle.service.image_gc import Collected, collect
from virshle.service.image_import import delete_images
from virshle.service.node import Node
from virshle.service.share import elsewhere, note_config
from virshle.store import Layout


@pytest.fixture
def node(images: Node) -> Node:
    return images


def _project(layout: Layout, name: str, text: str) -> Node:
    """Another configuration over the same state folder, with the image `flake`."""
    file = layout.paths.config.parent / name / "virshle.toml"
    file.parent.mkdir()
    file.write_text(f'[[image]]\nname = "flake"\nnix = ".#x"\n{text}')
    return Node(replace(layout.paths, config=file))


_NAMES_IT = '[[template.vm]]\nname = "t"\n[[template.vm.disk]]\nname = "os"\nimage = "flake"\n'


def test_what_another_project_names_is_kept_and_it_is_told_who(node: Node, nix: FakeNix, layout: Layout) -> None:
    other = _project(layout, "other", _NAMES_IT)
    ensure_built(other, "flake")
    file = other.paths.config
    assert collect(node) == Collected([], {"flake": f"{file} names it"})
    with pytest.raises(ConflictError, match="names it") as caught:
        delete_images(node, ["flake"])
    assert "--force flake" in caught.value.hint
    file.write_text(file.read_text().replace(_NAMES_IT, ""))
    assert collect(node) == Collected(["flake"], {})


def test_who_clones_what_another_built_names_it_too(node: Node, nix: FakeNix, layout: Layout) -> None:
    ensure_built(_project(layout, "first", ""), "flake")
    second = _project(layout, "second", _NAMES_IT.replace("flake", "tiny") + _NAMES_IT.replace('"t"', '"u"'))
    link = layout.image("flake") / "image.json"
    link.write_text(link.read_text().replace("/first#", "/second#"))
    builds = len(nix)
    create(second, Order("u", "web"))
    assert len(nix) == builds
    shutil.rmtree(layout.vm(node.store.find("web").uuid))
    assert collect(node).kept == {"flake": f"{second.paths.config} names it"}


def test_a_project_that_is_gone_names_nothing_and_is_forgotten(node: Node, nix: FakeNix, layout: Layout) -> None:
    other = _project(layout, "other", _NAMES_IT)
    ensure_built(other, "flake")
    shutil.rmtree(other.paths.config.parent)
    shown: list[str] = []
    collect(replace(node, dry_run=shown.append))
    assert any(f"forget a configuration that is gone: {other.paths.config}" in text for text in shown)
    assert len(list(layout.configs.iterdir())) == 1
    assert collect(node) == Collected(["flake"], {})
    assert list(layout.configs.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["[[", '[[template.vm]]\nname = "t"\n[[template.vm.disk]]\nname = "os"\nimage = "typo"\n']
)
def test_one_that_cannot_be_read_may_name_anything(node: Node, nix: FakeNix, layout: Layout, text: str) -> None:
    other = _project(layout, "other", "")
    ensure_built(other, "flake")
    other.paths.config.write_text(text)
    assert f"{other.paths.config} may name it, but cannot be read: " in collect(node).kept["flake"]


def test_a_note_that_another_forgets_meanwhile_is_none(
    node: Node, nix: FakeNix, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = _project(layout, "other", _NAMES_IT)
    ensure_built(other, "flake")
    (layout.configs / "0").symlink_to(other.paths.config.parent)
    real = Path.readlink

    def went(path: Path) -> Path:
        if path.name == "0":
            raise FileNotFoundError(2, "No such file or directory")
        return real(path)

    assert elsewhere(node).unread == {str(other.paths.config.parent): "it is not a file"}
    monkeypatch.setattr(Path, "readlink", went)
    assert collect(node).kept == {"flake": f"{other.paths.config} names it"}


def test_what_somebody_else_deletes_meanwhile_is_told(
    node: Node, nix: FakeNix, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    (layout.image("old")).mkdir()
    monkeypatch.setattr("virshle.service.image_import.hold_images", lambda *_: [])
    monkeypatch.setattr("virshle.service.image_import.check_images_deletable", lambda *_, **__: None)
    with pytest.raises(ConflictError, match="another command deletes image old"):
        delete_images(node, ["old"])


def test_what_is_built_in_needs_no_note(node: Node, nix: FakeNix, layout: Layout) -> None:
    layout.paths.config.unlink()
    build(Node(layout.paths), "nixos")
    assert list(layout.configs.iterdir()) == []


def test_what_is_no_file_is_not_noted(node: Node, layout: Layout) -> None:
    layout.paths.config.unlink()
    os.mkfifo(layout.paths.config)
    for config in (layout.paths.config, Path("/dev/null"), Path("/proc/self/status")):
        note_config(Node(replace(layout.paths, config=config)))
    node.folders()
    assert list(layout.configs.iterdir()) == []


def test_a_configuration_is_noted_once(node: Node, nix: FakeNix, layout: Layout, host: FakeHost) -> None:
    for _ in range(2):
        build(node, "flake")
    assert [argv[0] for argv in host.calls].count("ln") == 1
    assert [link.readlink() for link in layout.configs.iterdir()] == [layout.paths.config]


def test_what_we_did_not_build_is_not_deleted(node: Node, layout: Layout) -> None:
    (layout.images / "my-own").mkdir()
    (layout.images / "my-own" / "golden.raw").write_text("precious")
    assert collect(node) == Collected([], {})
    assert (layout.images / "my-own" / "golden.raw").exists()
