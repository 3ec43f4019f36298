"""What a flake built stays, as long as an image is made of it: GC roots, and what vanished from the store."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.host.flakes import flake as flake
from tests.host.flakes import record, row, write_flake
from tests.host.host import Host

pytestmark = pytest.mark.nix


def test_a_store_path_that_vanished_is_built_again(bare: Host, flake: Path) -> None:
    bare.v("image", "build", "own")
    path = record(bare)["store_path"]
    link = bare.state / "image" / "own" / "result"
    # As if it had been collected: only nix may delete in its store.
    link.unlink()
    link.symlink_to("/nix/store/00000000000000000000000000000000-gone")
    assert row(bare)["built"] is False
    bare.v("create", "-t", "own", "web")
    assert str(link.readlink()) == path


def collected(host: Host) -> None:
    collect = ["nix-store", "--option", "build-users-group", "", "--gc"]
    subprocess.run(collect, env=host.environment(), check=True, capture_output=True)


@pytest.fixture
def private(bare: Host, flake: Path) -> Host:
    """With a store of its own, from which may be deleted."""
    bare.env |= {
        f"NIX_{name}_DIR": str(bare.folder / "nix" / folder)
        for name, folder in {"STORE": "store", "STATE": "var", "LOG": "log", "CONF": "etc"}.items()
    }
    return bare


def test_what_was_garbage_collected_is_built_again(private: Host) -> None:
    private.v("create", "-t", "own", "web")
    path = Path(record(private)["store_path"])
    collected(private)
    assert path.exists(), "the link is a root"
    for root in (private.folder / "nix/var/gcroots/auto").iterdir():
        root.unlink()
    collected(private)
    assert not path.exists()
    assert row(private)["built"] is False
    assert private.ls()[0]["state"] == "stopped"
    private.v("create", "-t", "own", "db")
    assert path.exists()


def test_what_was_built_is_kept_on_when_the_state_folder_was_moved(private: Host) -> None:
    private.v("create", "-t", "own", "web")
    path = Path(record(private)["store_path"])
    assert "image own" not in private.v("doctor", code=None).stdout
    private.state.rename(private.folder / "moved")
    private.env["VIRSHLE_STATE_DIR"] = str(private.folder / "moved")
    said = private.v("doctor", code=None).stdout
    (line,) = [line for line in said.splitlines() if "--add-root" in line]
    assert "image own" in said
    private.v("create", "-t", "own", "db")
    assert "image own" not in private.v("doctor", code=None).stdout
    collected(private)
    assert path.exists()
    # And by the line that the doctor gave.
    for root in (private.folder / "nix/var/gcroots/auto").iterdir():
        root.unlink()
    words = shlex.split(line[line.index("nix-store") :])
    env = private.environment() | {"NIX_CONFIG": "build-users-group ="}
    subprocess.run(words, env=env, check=True, capture_output=True)
    collected(private)
    assert path.exists()


def test_what_a_refused_build_gave_is_not_kept(private: Host, flake: Path) -> None:
    file, empty = flake / "flake.nix", "/bin/mkdir $out $dev"
    write_flake(flake, script=empty)
    file.write_text(file.read_text().replace('name = "x";', 'name = "bad"; outputs = [ "out" "dev" ];', 1))
    for earlier in (False, True):
        if earlier:
            good = file.read_text()
            write_flake(flake)
            private.v("create", "-t", "own", "web")
            file.write_text(good)
        private.v("image", "build", "own", code=3)
        links = {
            path.name: str(path.readlink()) for path in (private.state / "image/own").iterdir() if path.is_symlink()
        }
        assert links == ({"result": record(private)["store_path"]} if earlier else {})
        collected(private)
        assert [path.name for path in (private.folder / "nix/store").glob("*-bad*") if path.suffix != ".drv"] == []
    assert row(private)["built"] is True


def test_what_somebody_deleted_in_the_store_is_told_with_what_makes_it_again(private: Host) -> None:
    private.v("image", "build", "own")
    path = Path(record(private)["store_path"])
    path.unlink()
    said = private.v("create", "-t", "own", code=6).stderr
    assert f"{path} does not exist, although Nix believes that it does" in said
    (line,) = [line for line in said.splitlines() if "nix-store --repair-path" in line]
    mend = shlex.split(line.partition("again: ")[2].partition(";")[0])
    env = private.environment() | {"NIX_CONFIG": private.env["NIX_CONFIG"] + "\nbuild-users-group ="}
    subprocess.run(mend, env=env, check=True, capture_output=True)
    private.v("create", "-t", "own", "web")
