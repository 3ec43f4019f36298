"""The flake, by the machine's own Nix: a copy of it, locked to a stand-in for nixpkgs (tests/nix/nixpkgs)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.host.host import LONG, Host

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests" / "nix" / "nixpkgs"
SYSTEM = f"{os.uname().machine}-linux"
SETTINGS = "build-users-group =\nsandbox = false\nsubstituters =\nexperimental-features = nix-command flakes"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RUN = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Flake:
    """`virshle` names it in the registry of the HOME that this has."""

    folder: Path
    env: dict[str, str]

    def nix(self, *words: str, cwd: Path | None = None, code: int = 0) -> str:
        return self.run(["nix", *words], cwd or self.folder, code)

    def run(self, argv: list[str], cwd: Path, code: int = 0) -> str:
        done = subprocess.run(argv, cwd=cwd, env=self.env, text=True, capture_output=True, timeout=LONG)
        assert done.returncode == code, f"{argv}\n{done.stdout}\n{done.stderr}"
        return _COLOUR.sub("", done.stdout + done.stderr)


def value(said: str) -> Any:
    """The JSON that it begins with."""
    return json.JSONDecoder().raw_decode(said)[0]


@pytest.fixture(scope="module")
def locked(tiny: Path) -> Iterator[Flake]:
    """What git would commit of the working tree, and a lock file of its own."""
    folder = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))
    folder.chmod(0o711)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / "virshle" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "virshle" / name)
    shutil.copytree(STAND_IN, folder / "nixpkgs")
    shutil.copy(tiny / "parts/busybox/bin/busybox", folder / "nixpkgs/busybox")
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    (folder / "nixpkgs/host.json").write_text(json.dumps({"path": path, "python": sys.executable}))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("VIRSHLE_", "XDG_", "PYTHON"))}
    # In the place of the world's, which Nix would fetch before it looks into one's own.
    (folder / "registry.json").write_text('{"flakes": [], "version": 2}')
    settings = f"{SETTINGS}\nflake-registry = {folder}/registry.json"
    flake = Flake(folder / "virshle", env | {"HOME": str(folder), "NIX_CONFIG": settings})
    flake.nix("flake", "lock", "--override-input", "nixpkgs", f"path:{folder}/nixpkgs")
    flake.nix("registry", "add", "virshle", f"path:{flake.folder}")
    yield flake
    shutil.rmtree(folder)


@pytest.fixture
def flake(locked: Flake, host: Host) -> Flake:
    """With a state in which the tiny image is built."""
    own = {name: value for name, value in host.environment().items() if name.startswith("VIRSHLE_")}
    return Flake(locked.folder, locked.env | own)


def test_it_is_pinned_to_a_nixpkgs_that_is_named_in_full() -> None:
    nodes = json.loads((ROOT / "flake.lock").read_text())["nodes"]
    pinned, asked = nodes["nixpkgs"]["locked"], nodes["nixpkgs"]["original"]
    assert re.fullmatch(r"[0-9a-f]{40}", pinned["rev"])
    assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", pinned["narHash"])
    reference = f"{asked['type']}:{asked['owner']}/{asked['repo']}/{asked['ref']}"
    assert f'inputs.nixpkgs.url = "{reference}";' in (ROOT / "flake.nix").read_text()


def test_show_lists_what_there_is(flake: Flake) -> None:
    shown = value(flake.nix("flake", "show", "--json"))
    for system in ("x86_64-linux", "aarch64-linux"):
        assert set(shown["packages"][system]) == {"default", "v", "image-nixos", "image-tiny"}
        assert set(shown["apps"][system]) == {"default", "v"}
        assert {"lint", "unit", "guests", "templates"} <= set(shown["checks"][system])
        assert "default" in shown["devShells"][system]
    assert set(shown["templates"]) == {"default", "guest", "ci"}
    assert set(shown["nixosModules"]) == {"default", "guest"}
    assert set(shown["overlays"]) == {"default"}


def test_check_evaluates_all_of_it(flake: Flake) -> None:
    flake.nix("flake", "check", "--no-build")


def test_run(flake: Flake) -> None:
    assert re.search(r"^v \d+\.\d+\.\d+$", flake.nix("run", ".#v", "--", "--version"), re.MULTILINE)
    # The folder of the caller is not where virshle looks for its own code.
    said = flake.nix("run", "virshle", "--", "create", "-t", "tiny", "web", "--dry-run", cwd=Path("/"))
    assert "cp --reflink=auto" in said


def test_a_package_knows_the_flake_it_came_from(flake: Flake) -> None:
    flake.nix("build", ".#v", "-o", "../v")
    (line,) = [line for line in (flake.folder / "../v/bin/v").read_text().splitlines() if "VIRSHLE_FLAKE" in line]
    found = re.fullmatch(r"export VIRSHLE_FLAKE=\$\{VIRSHLE_FLAKE-'(path:/nix/store/\S+)'\}", line)
    assert found
    metadata = value(flake.nix("flake", "metadata", "--json", found[1], cwd=Path("/")))
    assert metadata["path"] == found[1].removeprefix("path:").partition("?")[0]
    flake.nix("build", f"{found[1]}#packages.{SYSTEM}.image-nixos", "-o", str(flake.folder / "../image"), cwd=Path("/"))
    assert (flake.folder / "../image/disk.raw").exists()


def test_a_package_brings_completions(flake: Flake) -> None:
    flake.nix("build", ".#v", "-o", "../v")
    completions = flake.folder / "../v/share/completions"
    assert {path.name for path in completions.iterdir()} == {"v.bash", "v.zsh", "v.fish"}
    assert all("_V_COMPLETE" in path.read_text() for path in completions.iterdir())


def test_tiny_of_nixpkgs_packages(flake: Flake) -> None:
    flake.nix("build", ".#image-tiny", "-o", "../tiny")
    image = flake.folder / "../tiny"
    assert {path.name for path in image.iterdir()} == {"disk.raw", "kernel", "initrd", "cmdline"}
    # What stands for the kernel.
    assert (image / "kernel").read_text() == "kernel\n"


@pytest.mark.parametrize("template", ["guest", "ci"])
def test_a_template_is_a_flake_that_works(flake: Flake, bare: Host, template: str) -> None:
    mine = bare.folder / "mine"
    mine.mkdir()
    flake.nix("flake", "init", "-t", f"virshle#{template}", cwd=mine)
    assert "v " in flake.nix("run", ".#v", "--", "--version", cwd=mine)
    image = ".#nixosConfigurations.web.config.system.build.virshleImage"
    flake.nix("build", image, cwd=mine)
    # The guest module, and web.nix.
    assert (mine / "result/disk.raw").read_bytes().startswith(b"made of 2 modules")
    flake.env["VIRSHLE_CONFIG"] = str(mine / "virshle.toml")
    rows = value(flake.nix("run", ".#v", "--", "image", "ls", "--format", "json", cwd=mine))
    assert {row["name"] for row in rows} >= {"web", "tiny"}


def commands(page: str) -> list[str]:
    """The blocks of a page that are fenced as `sh`: what a reader may paste."""
    return _RUN.findall((ROOT / "docs" / page).read_text())


@pytest.mark.parametrize("page", ["flakes.md", "own-images.md", "ci.md"])
def test_what_the_page_says_is_what_works(flake: Flake, bare: Host, page: str) -> None:
    """Each page from its beginning, in a shell: its first block begins in a clone."""
    found = commands(page)
    assert found
    flake.env["TMPDIR"] = str(bare.folder)
    flake.run(["bash", "-euxc", "\n".join(found)], flake.folder)
    assert bare.ls() == []
