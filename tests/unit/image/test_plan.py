from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from virshle.config.schema import ImageConfig
from virshle.errors import ConfigError
from virshle.fs import expand
from virshle.image import build_steps, record_step, tiny_steps
from virshle.image.plan import NIX_FILES
from virshle.nix import NixHost
from virshle.plan import Run, Write

NIX = NixHost("nix", (2, 18, 1), "/nix/store")
FOLDER = Path("/s/image/x")


def _image(**source: Any) -> ImageConfig:
    return ImageConfig.model_validate({"name": "x", **source})


def test_a_flake_is_built_into_the_images_folder() -> None:
    (step,) = build_steps(_image(nix="github:a/b#image"), FOLDER, NIX, expand)
    assert isinstance(step, Run)
    assert step.command.argv[-3:] == ("--out-link", "/s/image/x/result", "github:a/b#image")


def test_a_flake_without_attribute_is_refused() -> None:
    with pytest.raises(ConfigError, match="names no attribute") as caught:
        build_steps(_image(nix="github:a/b"), FOLDER, NIX, expand)
    assert "FLAKE#ATTRIBUTE" in caught.value.hint


def test_a_nix_file_is_called_with_its_arguments(tmp_path: Path) -> None:
    file = tmp_path / "home" / "x.nix"
    file.write_text("")
    (step,) = build_steps(_image(file="~/x.nix", args={"size": "1"}), FOLDER, NIX, expand)
    assert isinstance(step, Run)
    assert step.command.argv[-5:] == ("--file", str(file), "--argstr", "size", "1")


def test_a_missing_nix_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no Nix file"):
        build_steps(_image(file=str(tmp_path / "x.nix")), FOLDER, NIX, expand)


def test_the_built_in_image_is_built_of_files_that_are_there() -> None:
    assert (NIX_FILES / "debian.nix").is_file()
    (step,) = tiny_steps(FOLDER, NIX, {"parts": "/p"}, "debian.nix", offline=True)
    assert isinstance(step, Run)
    assert str(NIX_FILES / "debian.nix") in step.command.argv
    assert step.command.argv[-3:] == ("--argstr", "parts", "/p")


def test_what_was_built_is_noted_beside_it() -> None:
    step = record_step(_image(nix=".#x"), FOLDER, NIX, Path("/nix/store/y"), ("a_1",))
    assert isinstance(step, Write)
    assert step.path == FOLDER / "image.json"
    noted = json.loads(step.text)
    assert (noted["name"], noted["source"], noted["store_path"], noted["nix"], noted["parts"]) == (
        *("x", ".#x", "/nix/store/y", "2.18.1"),
        ["a_1"],
    )
