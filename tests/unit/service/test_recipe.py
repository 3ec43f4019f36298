"""Of what the image `tiny` is built, as the host has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from virshle.errors import ConfigError
from virshle.image import plan
from virshle.image.plan import NIX_FILES
from virshle.model.arch import host_arch
from virshle.model.vm import Pin
from virshle.nix import NixHost, Reference
from virshle.service import recipe as module
from virshle.service.node import Node
from virshle.service.recipe import recipe, recipe_now

NIX = NixHost("/bin/nix", (2, 18), "/nix/store")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """What it has; as it is, nothing."""
    has = {"nixpkgs": False, "apt": False}
    monkeypatch.setattr(module, "_have_nixpkgs", lambda: has["nixpkgs"])
    monkeypatch.setattr(module, "have_apt", lambda: has["apt"])
    monkeypatch.setattr(module, "resolve", lambda arch: None)

    def look_up(nix: NixHost, wanted: Reference, *_: object, refresh: bool) -> Pin:
        return Pin(flake=wanted.flake, locked=f"{wanted.flake}?narHash={refresh}", attribute=wanted.attribute)

    monkeypatch.setattr(module, "look_up", look_up)
    return has


def test_where_there_is_neither_nixpkgs_nor_apt_it_is_of_virshles_own_flake(
    node: Node, host: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRSHLE_FLAKE", "path:/nix/store/x-source")
    attribute = f"packages.{host_arch().nix}.image-tiny"
    with node.apply() as apply:
        used = recipe(node, apply, node.config.image("tiny"), NIX, refresh=False)
    assert used.words == (f"path:/nix/store/x-source?narHash=False#{attribute}",)
    assert used.pin is not None
    assert not used.offline
    now = recipe_now(node, node.config.image("tiny"), NIX)
    assert now is not None
    assert now.words == (f"path:/nix/store/x-source?narHash=True#{attribute}",)


@pytest.mark.parametrize("has", ["nixpkgs", "apt"])
def test_it_is_asked_last(node: Node, host: dict[str, bool], has: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRSHLE_FLAKE", "path:/nix/store/x-source")
    host[has] = True
    now = recipe_now(node, node.config.image("tiny"), NIX)
    assert (now.words if now else None) == (("--file", str(NIX_FILES / "nixpkgs.nix")) if has == "nixpkgs" else None)


def test_where_there_is_none_of_the_three_all_are_named(
    node: Node, host: dict[str, bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(plan, "_SOURCE", tmp_path)
    with pytest.raises(ConfigError, match=r"NIX_PATH.*apt.*own flake") as caught:
        recipe_now(node, node.config.image("tiny"), NIX)
    assert "VIRSHLE_FLAKE" in caught.value.hint
