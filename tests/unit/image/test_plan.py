from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from virshle.config.schema import ImageConfig
from virshle.errors import ConfigError
from virshle.fs import expand
from virshle.image import Recipe, build_step, file_recipe, flake_of, own_flake, plan, record_step, tiny_recipe
from virshle.image.plan import NIX_FILES
from virshle.model.arch import host_arch
from virshle.model.vm import Pin
from virshle.nix import NixHost
from virshle.plan import Run, Write

NIX = NixHost("nix", (2, 18, 1), "/nix/store")
FOLDER = Path("/s/image/x")
PIN = Pin(flake="git+file:///f", locked="git+file:///f?rev=abc", attribute="image", nar_hash="sha256-x", revision="abc")


def _image(**source: Any) -> ImageConfig:
    return ImageConfig.model_validate({"name": "x", **source})


def test_what_is_built_is_linked_in_the_images_folder() -> None:
    step = build_step(_image(nix="x#y"), Recipe(("x?rev=1#y",)), FOLDER, NIX)
    assert isinstance(step, Run)
    assert step.command.argv[-3:] == ("--out-link", "/s/image/x/result", "x?rev=1#y")
    (drop,) = step.undo
    assert drop.shell() == "find /s/image/x -maxdepth 1 -type l -name 'result*' -delete"


def test_only_what_a_flake_builds_is_of_one() -> None:
    assert str(flake_of(_image(nix="github:a/b#image"), expand)) == "github:a/b#image"
    assert flake_of(_image(file="x.nix"), expand) is None
    assert flake_of(_image(builtin="tiny"), expand) is None


def test_a_flake_without_attribute_is_refused() -> None:
    with pytest.raises(ConfigError, match="image 'x': nix = 'github:a/b' names no attribute") as caught:
        flake_of(_image(nix="github:a/b"), expand)
    assert "FLAKE#ATTRIBUTE" in caught.value.hint


def test_nixos_is_of_the_flake_that_the_package_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    attribute = f"packages.{host_arch().nix}.image-nixos"
    monkeypatch.setenv("VIRSHLE_FLAKE", "path:/nix/store/x-source")
    assert str(flake_of(_image(builtin="nixos"), expand)) == f"path:/nix/store/x-source#{attribute}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRSHLE_FLAKE", ".")
    assert str(flake_of(_image(builtin="nixos"), expand)) == f"{tmp_path}#{attribute}"
    monkeypatch.setenv("VIRSHLE_FLAKE", "~/virshle")
    assert str(flake_of(_image(builtin="nixos"), expand)) == f"{tmp_path}/home/virshle#{attribute}"


def test_else_it_is_of_the_source_trees_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plan, "_SOURCE", tmp_path)
    with pytest.raises(ConfigError) as caught:
        own_flake()
    for part in ("VIRSHLE_FLAKE", "[[image]]"):
        assert part in caught.value.hint
    (tmp_path / "flake.nix").write_text("{ }")
    assert own_flake() == str(tmp_path)


def test_a_nix_file_is_called_with_its_arguments(tmp_path: Path) -> None:
    file = tmp_path / "home" / "x.nix"
    file.write_text("")
    recipe = file_recipe(_image(file="~/x.nix", args={"size": "1"}), expand)
    assert recipe == Recipe(("--file", str(file), "--argstr", "size", "1"))


def test_a_missing_nix_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no Nix file"):
        file_recipe(_image(file=str(tmp_path / "x.nix")), expand)


def test_the_built_in_image_is_built_of_files_that_are_there() -> None:
    assert tiny_recipe(None) == Recipe(("--file", str(NIX_FILES / "nixpkgs.nix")))
    words = ("--file", str(NIX_FILES / "debian.nix"), "--argstr", "parts", "/p")
    assert tiny_recipe(Path("/p"), ("a_1",)) == Recipe(words, parts=("a_1",), offline=True)
    for name in ("nixpkgs.nix", "debian.nix"):
        assert (NIX_FILES / name).is_file()


def test_what_was_built_is_noted_beside_it() -> None:
    step = record_step(_image(nix=".#x"), "/flake#x", Recipe(("x",), PIN, ("a_1",)), FOLDER, NIX, Path("/nix/store/y"))
    assert isinstance(step, Write)
    assert step.path == FOLDER / "image.json"
    noted = json.loads(step.text)
    assert (noted["name"], noted["source"], noted["store_path"], noted["nix"], noted["parts"]) == (
        *("x", "/flake#x", "/nix/store/y", "2.18.1"),
        ["a_1"],
    )
    assert Pin.model_validate(noted["pin"]) == PIN
