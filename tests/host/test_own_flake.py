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

pytestmark = pytest.mark.nix

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests" / "nix" / "nixpkgs"
SYSTEM = f"{os.uname().machine}-linux"
SETTINGS = "build-users-group =\nsandbox = false\nsubstituters =\nexperimental-features = nix-command flakes"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RUN = re.compile(r"^```sh ?(nixpkgs|)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


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


def start(flake: Flake, template: str, folder: Path) -> Path:
    """A flake made of that template, which names virshle in full: not every Nix asks the registry for inputs."""
    folder.mkdir()
    flake.nix("flake", "init", "-t", f"virshle#{template}", cwd=folder)
    file = folder / "flake.nix"
    file.write_text(file.read_text().replace('"flake:virshle"', f'"path:{flake.folder}"'))
    return folder


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
    # A profile of its own, where Nix would make it in the machine's /nix/var/nix/profiles.
    (folder / ".nix-profile").symlink_to(folder / "profile")
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
        assert {"lint", "unit", "guests", "templates", "host"} <= set(shown["checks"][system])
        assert "default" in shown["devShells"][system]
    assert set(shown["templates"]) == {"default", "guest", "ci"}
    assert set(shown["nixosModules"]) == {"guest"}
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
    assert {path.name for path in image.iterdir()} == {"disk.raw", "kernel", "initrd", "cmdline", "seed"}
    # What stands for the kernel.
    assert (image / "kernel").read_text() == "kernel\n"


def test_a_package_builds_tiny_of_its_own_flake_where_there_is_no_apt(flake: Flake, bare: Host) -> None:
    """As on NixOS, which has neither that nor, by its flakes, a NIX_PATH."""
    flake.nix("build", ".#v", "-o", "../v")
    flake.nix("build", ".#image-tiny", "-o", "../tiny")
    programs = bare.folder / "bin"
    programs.mkdir()
    for name in ("mkdir", "nix", "nix-instantiate", "nix-store", "true", "unshare"):
        found = shutil.which(name, path=flake.env["PATH"])
        assert found is not None
        (programs / name).symlink_to(found)
    own = {name: value for name, value in bare.environment().items() if name.startswith("VIRSHLE_")}
    env = {name: value for name, value in (flake.env | own).items() if name != "NIX_PATH"} | {"PATH": str(programs)}
    Flake(flake.folder, env).run([str(flake.folder / "../v/bin/v"), "image", "build", "tiny"], Path("/"))
    record = json.loads((bare.state / "image/tiny/image.json").read_text())
    assert record["store_path"] == str((flake.folder / "../tiny").resolve())
    assert record["pin"]["flake"].startswith("path:/nix/store/")


@pytest.mark.parametrize("template", ["guest", "ci"])
def test_a_template_is_a_flake_that_works(flake: Flake, bare: Host, template: str) -> None:
    mine = start(flake, template, bare.folder / "mine")
    assert "v " in flake.nix("run", ".#v", "--", "--version", cwd=mine)
    image = ".#nixosConfigurations.web.config.system.build.virshleImage"
    flake.nix("build", image, cwd=mine)
    # The guest module, and web.nix.
    assert (mine / "result/disk.raw").read_bytes().startswith(b"made of 2 modules")
    flake.env["VIRSHLE_CONFIG"] = str(mine / "virshle.toml")
    rows = value(flake.nix("run", ".#v", "--", "image", "ls", "--format", "json", cwd=mine))
    assert {row["name"] for row in rows} >= {"web", "tiny"}


# In the place of nix where a block needs nixpkgs: does all but boot what the stand-in builds, which is no guest, and
# run programs that the stand-in has not got.
AS_FAR_AS_IT_GOES = r"""
nix() {
    case $needs_nixpkgs:$1:${4-} in
    nixpkgs:run:ssh) return ;;
    nixpkgs:run:run) set -- "${@:1:3}" image build "$6" ;;
    nixpkgs:run:create)
        while [ "${!#}" = --wait ] || [ "${!#}" = --start ]; do set -- "${@:1:$#-1}"; done ;;
    nixpkgs:flake:*) set -- "$@" --no-build ;;
    nixpkgs:develop:*) set -- develop --command true ;;
    esac
    command nix "$@"
}
export -f nix
"""


def commands(page: str) -> str:
    """The blocks of a page that are fenced as `sh`: what a reader may paste."""
    blocks = _RUN.findall((ROOT / page).read_text())
    return AS_FAR_AS_IT_GOES + "".join(f"export needs_nixpkgs={needs}\n{text}" for needs, text in blocks)


@pytest.mark.parametrize(
    ("page", "made"),
    [("README.md", ["nixos"]), ("docs/flakes.md", ["nixos"]), ("docs/own-images.md", ["web"]), ("docs/ci.md", [])],
)
def test_what_the_page_says_is_what_works(flake: Flake, bare: Host, page: str, made: list[str]) -> None:
    """Each page from its beginning, in a shell: its first block begins in a clone. `made`: the images of VMs that it
    leaves."""
    flake.env["TMPDIR"] = str(bare.folder)
    flake.run(["bash", "-euxc", commands(page)], flake.folder)
    assert [row["image"] for row in bare.ls()] == made


def test_each_block_that_a_page_says_is_run_is_run() -> None:
    """By this test or by test_docs.py, and that of the completions by test_completion.py."""
    pages = ["README.md", *(f"docs/{name}.md" for name in ("ci", "commands", "flakes", "images", "own-images", "run"))]
    found = [path for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")] if _RUN.search(path.read_text())]
    assert sorted(str(path.relative_to(ROOT)) for path in found) == pages


def test_what_ci_runs_works_as_far_as_it_goes_without_nixpkgs(flake: Flake, bare: Host) -> None:
    mine = start(flake, "ci", bare.folder / "mine")
    workflow = (mine / ".github/workflows/vm.yml").read_text()
    assert "run: bash test\n" in workflow
    said = flake.run(["bash", "-euc", f"{AS_FAR_AS_IT_GOES}export needs_nixpkgs=nixpkgs\nbash test"], mine)
    assert said.count("built web: /nix/store/") == 2
