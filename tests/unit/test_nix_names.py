"""Our Nix files name nothing but what is in tests/nix/nixpkgs/names.toml, where each name has the file of nixpkgs in
which it was read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nixnames import NixFile

ROOT = Path(__file__).parents[2]
NAMES = tomllib.loads((ROOT / "tests/nix/nixpkgs/names.toml").read_text())
FILES = sorted(
    str(path.relative_to(ROOT))
    for folder in (".", "nix", "nixos-module", "templates/ci", "templates/guest", "virshle/image/tiny")
    for path in (ROOT / folder).glob("*.nix")
)
CALLED = {"nix/package.nix", "nix/shell.nix", "nixos-module/image.nix"}
"""By callPackage, which gives a function the packages that its arguments are named after."""
OURS = {"flake", "config", "lib", "pkgs", "python3Packages"}
ROOTS = {"pkgs": "packages", "final": "packages", "lib": "lib", "nixpkgs.lib": "lib", "config": "options"}
MODULES = {file for file in FILES if file.startswith("nixos-module/") or file.endswith("/web.nix")} - {
    "nixos-module/priority.nix"
}
MODULE = re.compile(r"(?:config|nodes\.host|mkImage\.modules)\.")
GROUPS = "boot|environment|fileSystems|fonts|networking|nix|security|services|system|systemd|users|virtualisation"
"""Those of NixOS's options of which we name any."""
_WORDS = re.compile(rf"`((?:{GROUPS})\.[a-zA-Z][\w.-]*\w)")


def used(file: str, text: str) -> Iterator[tuple[str, str]]:
    """Each name, after its kind."""
    found = NixFile(text)
    if file in CALLED:
        yield from (("packages", name) for name in found.arguments if name not in OURS)
    for path in found.reads:
        name = ".".join(path)
        if path[0] in ("python3Packages", "python3") and file in CALLED:
            yield "packages", name
        # The argument of python3.withPackages.
        if file == "nix/python.nix" and path[0] == "packages":
            yield "packages", ".".join(("python3Packages", *path[1:]))
        for root, kind in ROOTS.items():
            if name.startswith(f"{root}."):
                yield kind, name.removeprefix(f"{root}.")
    for path in found.defines:
        name, count = MODULE.subn("", ".".join(path), 1)
        is_module = file in MODULES or count
        if is_module and path[0] not in ("options", "imports"):
            yield "options", name


def unlisted(kind: str, name: str) -> bool:
    """A set of listed names is listed too, and so is all in an option that is."""
    if name.startswith("virshle."):
        return False
    listed = [re.sub(r"<name>", "*", known).split(".") for known in NAMES[kind]]
    parts = _parts(name) if kind == "options" else name.split(".")
    return not any(_fits(known, parts) for known in listed)


def _parts(name: str) -> list[str]:
    """The name of a file or a unit has dots of its own."""
    return re.sub(r"(?<=environment\.etc\.)[^.]+(?:\.\w+)(?=\.text)", "x", name).split(".")


def _fits(known: list[str], parts: list[str]) -> bool:
    return all(one in ("*", part) for one, part in zip(known, parts, strict=False))


@pytest.mark.parametrize("file", FILES)
def test_every_name_was_read_in_nixpkgs(file: str) -> None:
    names = set(used(file, (ROOT / file).read_text()))
    assert sorted(name for name in names if unlisted(*name)) == []


def test_the_pages_name_options_that_there_are() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {name for page in pages for name in _WORDS.findall(page.read_text())}
    assert "services.getty.autologinUser" in named
    assert sorted(name for name in named if unlisted("options", name)) == []


@pytest.mark.parametrize(
    ("file", "text", "name"),
    [
        ("nix/x.nix", "{ pkgs }: pkgs.rust-hypervisor-firmware", ("packages", "rust-hypervisor-firmware")),
        ("nix/x.nix", '{ pkgs }: "${pkgs.nothing}/bin"', ("packages", "nothing")),
        ("nix/x.nix", "{ pkgs }: let all = pkgs.pkgsStatic; in all.nothing", ("packages", "pkgsStatic.nothing")),
        ("nix/x.nix", "{ pkgs }: { inherit (pkgs.pkgsStatic) nothing; }", ("packages", "pkgsStatic.nothing")),
        (
            "virshle/image/tiny/x.nix",
            '{ pkgs }: let host = pkgs.stdenv.hostPlatform; in "${host.linux-kernel.target}"',
            ("packages", "stdenv.hostPlatform.linux-kernel.target"),
        ),
        ("nix/python.nix", "packages: with packages; [ import-linter ]", ("packages", "python3Packages.import-linter")),
        ("nix/shell.nix", "{ mkShell, hypervisor-fw }: mkShell { }", ("packages", "hypervisor-fw")),
        ("nix/package.nix", "{ python3Packages }: with python3Packages; [ ovs ]", ("packages", "python3Packages.ovs")),
        ("nix/x.nix", "{ lib }: lib.types.uniqueness", ("lib", "types.uniqueness")),
        (
            "nixos-module/boot.nix",
            "{ services.kea.ctrl-agent.enable = true; }",
            ("options", "services.kea.ctrl-agent.enable"),
        ),
        (
            "nixos-module/boot.nix",
            "{ lib, ... }: lib.mkMerge [ (lib.mkIf true { boot = { loader.vesa = 1; }; }) ]",
            ("options", "boot.loader.vesa"),
        ),
        (
            "nixos-module/boot.nix",
            "{ config, ... }: { system.name = config.networking.nam; }",
            ("options", "networking.nam"),
        ),
    ],
)
def test_a_name_that_nixpkgs_has_not_is_found(file: str, text: str, name: tuple[str, str]) -> None:
    assert [one for one in used(file, text) if unlisted(*one)] == [name]


def test_what_a_string_or_a_comment_says_is_no_name() -> None:
    text = "{ pkgs }: # pkgs.one\n /* pkgs.two */ ''pkgs.three ''${pkgs.four} '' + \"pkgs.five \\${pkgs.six}\""
    assert list(used("nix/x.nix", text)) == []
