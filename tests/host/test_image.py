"""Building images with the real nix."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tests.host.host import LONG, Host, V
from virshle.model.arch import host_arch

pytestmark = pytest.mark.nix

NIX = ("nix", "--extra-experimental-features", "nix-command flakes")


@pytest.mark.heart
def test_it_is_recorded_and_rooted(tiny: Path) -> None:
    store_path = (tiny / "result").readlink()
    record = json.loads((tiny / "image.json").read_text())
    assert record["store_path"] == str(store_path)
    assert any(part.startswith("linux-image-") for part in record["parts"])
    assert {path.name for path in store_path.iterdir()} == {"disk.raw", "kernel", "initrd", "cmdline", "seed"}
    roots = subprocess.run(["nix-store", "-q", "--roots", str(store_path)], text=True, capture_output=True, check=True)
    assert str(tiny / "result") in roots.stdout


def test_rebuilt_in_an_empty_store_it_is_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    """Another store, at another place, at another time."""
    folders = {"STORE": "store", "STATE": "var", "LOG": "log", "CONF": "etc"}
    env = os.environ | {f"NIX_{name}_DIR": str(tmp_path / folder) for name, folder in folders.items()}
    # Not every machine allows what the sandbox needs, and it makes no difference to the bytes.
    env["NIX_CONFIG"] = "build-users-group =\nsubstituters =\nsandbox = false"
    expression = Path(__file__).parents[2] / "virshle" / "image" / "tiny" / "debian.nix"
    build = [*NIX, "build", "--file", str(expression), "--argstr", "parts", str(tiny / "parts")]
    subprocess.run([*build, "--out-link", str(tmp_path / "again")], env=env, check=True, timeout=LONG)
    again = tmp_path / "again"
    assert again.readlink().parent == tmp_path / "store"
    hashes = [
        subprocess.run([*NIX, "hash", "path", str(link.resolve())], text=True, capture_output=True, check=True).stdout
        for link in (tiny / "result", again)
    ]
    assert hashes[0] == hashes[1]


def test_where_there_is_a_nixpkgs_the_parts_come_from_it(bare: Host) -> None:
    """Evaluated only, against a stand-in: there is no nixpkgs to build from here."""
    bare.env["NIX_PATH"] = f"nixpkgs={Path(__file__).with_name('nixpkgs')}"
    assert "tiny/nixpkgs.nix" in bare.v("image", "build", "tiny", "--dry-run").stdout
    expression = Path(__file__).parents[2] / "virshle" / "image" / "tiny" / "nixpkgs.nix"
    words = ["nix-instantiate", "--option", "build-users-group", "", "--eval", "--strict", "--json"]
    found = subprocess.run(
        [*words, "-E", f"let tiny = import {expression} {{ }}; in {{ inherit (tiny) kernel drvPath; }}"],
        env=bare.environment(),
        text=True,
        capture_output=True,
        check=True,
    )
    tiny = json.loads(found.stdout)
    assert tiny["kernel"].endswith("-linux/bzImage")
    assert tiny["drvPath"].endswith("-tiny.drv")


SHELL = 'args = [ "-c" "{script}" ]; builder = "/bin/sh"; system = builtins.currentSystem; name = "x";'


def image_of(host: Host, script: str) -> None:
    """An image by a Nix file of one's own, whose builder is this script."""
    file = host.folder / "own.nix"
    file.write_text('{ size ? "1" }: derivation { inherit size; ' + SHELL.format(script=script) + " }")
    host.configure(
        f'[[image]]\nname = "own"\nfile = "{file}"\nargs = {{ size = "2" }}\n'
        '[[template.vm]]\nname = "own"\n[[template.vm.disk]]\nname = "os"\nimage = "own"\n'
    )
    host.env["NIX_CONFIG"] = "sandbox = false\nsubstituters ="


def test_a_nix_file_with_arguments(bare: Host) -> None:
    image_of(bare, "echo building of size $size >&2; /bin/dd if=/dev/zero of=$out bs=1048576 count=$size")
    bare.v("create", "-t", "own", "web")
    (disk,) = bare.state.glob("vm/*/disk/os")
    assert disk.stat().st_size == 2 * 2**20
    rows = {row["name"]: row for row in json.loads(bare.v("image", "ls", "--format", "json").stdout)}
    assert rows["own"]["built"] is True
    assert rows["own"]["virtual"] == 2 * 2**20


@pytest.mark.heart
def test_the_builders_log_is_shown_when_it_fails(bare: Host) -> None:
    image_of(bare, "echo this is the reason >&2; exit 9")
    said = bare.v("create", "-t", "own", code=6).stderr
    assert "this is the reason" in said
    assert "command: " in said
    assert bare.ls() == []
    assert not (bare.state / "image" / "own" / "result").is_symlink()


@pytest.mark.parametrize(
    ("script", "part"),
    [
        ("/bin/mkdir $out", "no disk"),
        (
            "/bin/mkdir $out; for x in a b; do /bin/dd if=/dev/zero of=$out/$x.raw bs=512 count=1; done",
            "2 disks",
        ),
        (
            "/bin/mkdir $out; /bin/dd if=/dev/zero of=$out/disk.raw bs=512 count=1; echo > $out/kernel",
            "has only some of kernel, initrd and cmdline",
        ),
        (": > $out", "truncated"),
        ("printf 'QFI\\\\373' > $out; /bin/dd if=/dev/zero bs=508 count=1 >> $out", "is qcow2"),
        # What a guest would then be given is the author's choice.
        ("/bin/mkdir $out; /bin/ln -s /etc/hostname $out/disk.raw", "leads out of"),
        ("/bin/ln -s /etc $out", "leads out of"),
    ],
)
def test_what_is_no_image(bare: Host, script: str, part: str) -> None:
    image_of(bare, script)
    assert part in bare.v("create", "-t", "own", code=3).stderr
    assert bare.ls() == []


def test_a_nix_error_is_shown_as_nix_said_it(bare: Host) -> None:
    image_of(bare, "true")
    (bare.folder / "own.nix").write_text('{ size }: throw "no such flavour"')
    assert "no such flavour" in bare.v("image", "build", "own", code=6).stderr
    (bare.folder / "own.nix").write_text("{ size }: {")
    assert "syntax error" in bare.v("image", "build", "own", code=6).stderr


def test_a_flake_attribute(bare: Host) -> None:
    folder = bare.folder / "flake"
    folder.mkdir()
    (folder / "flake.nix").write_text(
        '{ outputs = { self }: { image = derivation { name = "x"; builder = "/bin/sh"; '
        f'system = "{host_arch().nix}"; '
        'args = [ "-c" "/bin/dd if=/dev/zero of=$out bs=1048576 count=1" ]; }; }; }'
    )
    bare.configure(f'[[image]]\nname = "own"\nnix = "path:{folder}#image"\n')
    bare.env["NIX_CONFIG"] = "sandbox = false\nsubstituters ="
    bare.v("image", "build", "own")
    bare.configure(f'[[image]]\nname = "own"\nnix = "path:{folder}#imgae"\n')
    assert "imgae" in bare.v("image", "build", "own", code=6).stderr


def test_a_nix_whose_features_are_off_builds_all_the_same(bare: Host) -> None:
    image_of(bare, "/bin/dd if=/dev/zero of=$out bs=1048576 count=1")
    bare.env["NIX_CONFIG"] += "\nexperimental-features ="
    bare.v("image", "build", "own")


@pytest.mark.heart
def test_gc_lets_go_of_what_no_template_names(bare: Host) -> None:
    image_of(bare, "/bin/dd if=/dev/zero of=$out bs=1048576 count=1")
    bare.v("create", "-t", "own", "web")
    assert "no image to release" in bare.v("image", "gc").stderr
    bare.config.write_text("")
    said = bare.v("image", "gc").stderr
    assert "no image to release" in said
    assert "kept own" in said
    assert "web" in said
    assert bare.folders("image") == {"own"}, "`v script web` copies its disk"
    bare.v("delete", "web")
    shown = bare.v("image", "gc", "--dry-run").stdout
    assert "# own: 1MiB on disk, /nix/store/" in shown
    assert "rm -rf" in shown
    assert bare.folders("image") == {"own"}
    assert "own" in bare.v("image", "gc").stderr
    assert bare.folders("image") == set()


def test_gc_keeps_what_another_project_names(bare: Host) -> None:
    image_of(bare, "/bin/dd if=/dev/zero of=$out bs=1048576 count=1")
    bare.v("image", "build", "own")
    mine = bare.config
    bare.env["VIRSHLE_CONFIG"] = str(bare.folder / "other.toml")
    (bare.folder / "other.toml").write_text("")
    for words in (["--dry-run"], []):
        kept = f"kept own, which no template of this configuration names: {mine} names it"
        assert kept in bare.v("image", "gc", *words).stderr
    assert "another project uses image 'own' too" in bare.v("image", "delete", "own", code=5).stderr
    assert bare.folders("image") == {"own"}
    mine.unlink()
    assert f"forget a configuration that is gone: {mine}" in bare.v("image", "gc", "--dry-run").stdout
    assert "released own" in bare.v("image", "gc").stderr
    assert (bare.folders("image"), bare.folders("config")) == (set(), set())


@pytest.mark.heart
@pytest.mark.parametrize("number", ["INT", "KILL"])
def test_an_interrupted_build_leaves_no_half_image(bare: Host, number: str) -> None:
    # A time nobody else sleeps, to know the builder by.
    seconds = 10**6 + os.getpid()
    image_of(bare, f"/bin/sleep {seconds}")
    builder = subprocess.Popen([str(V), "image", "build", "own"], env=bare.environment(), stderr=subprocess.PIPE)
    wait_for(lambda: sleeps(seconds))
    builder.send_signal(getattr(signal, f"SIG{number}"))
    builder.communicate(timeout=60)
    assert builder.returncode == (130 if number == "INT" else -9)
    if number == "KILL":
        # Nix was left behind and holds the image's lock; it is ended as a person would end it.
        subprocess.run(["pkill", "-INT", "-f", str(bare.folder / "own.nix")], check=True)
    wait_for(lambda: not sleeps(seconds))
    assert not (bare.state / "image" / "own" / "result").is_symlink()
    image_of(bare, "/bin/dd if=/dev/zero of=$out bs=1048576 count=1")
    bare.v("image", "build", "own")


def sleeps(seconds: int) -> bool:
    return subprocess.run(["pgrep", "-f", f"^/bin/sleep {seconds}"], capture_output=True).returncode == 0


def wait_for(condition: Callable[[], bool], bound: float = LONG) -> None:
    deadline = time.monotonic() + bound
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_builds_at_once_build_one_after_the_other(bare: Host) -> None:
    # Never built before, on this machine either.
    image_of(bare, f": {uuid4()}; /bin/sleep 3; /bin/dd if=/dev/zero of=$out bs=1048576 count=1")
    argv = [sys.executable, "-m", "virshle", "image", "build", "own"]
    both = [subprocess.Popen(argv, env=bare.environment(), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=LONG)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert ["waiting for another process that works on" in one for one in said].count(True) == 1
