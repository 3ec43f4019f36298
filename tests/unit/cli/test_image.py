"""`v image`, as far as it needs no nix."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.unit.cli.conftest import V
from tests.unit.fakehost import FakeHost
from tests.unit.support import make_vm, put_vm
from virshle.service import image
from virshle.service.image import Update
from virshle.store import Layout

DISK = bytes(510) + b"\x55\xaa"


@pytest.fixture
def disk(tmp_path: Path, host: FakeHost) -> Path:
    path = tmp_path / "debian.raw"
    path.write_bytes(DISK)
    return path


def test_an_imported_image_is_told_and_can_be_deleted(disk: Path, layout: Layout, v: V) -> None:
    ran = v("image", "import", str(disk))
    assert (ran.code, ran.out) == (0, "debian\n")
    assert 'image = "debian"' in ran.err
    assert "debian" in v("image", "ls", "-q").out.split()
    assert v("image", "delete", "debian").err == "deleted debian\n"
    assert "debian" not in v("image", "ls", "-q").out.split()


def test_a_dry_import_shows_its_steps(disk: Path, layout: Layout, v: V) -> None:
    ran = v("image", "import", str(disk), "--name", "x", "--dry-run")
    assert ran.code == 0
    assert "cp --reflink=auto" in ran.out
    assert ran.err == ""
    assert list(layout.images.iterdir()) == []


def test_gc_tells_what_it_keeps_and_why(layout: Layout, host: FakeHost, v: V) -> None:
    assert v("image", "gc").err == "no image to release\n"
    for name in ("own", "other"):
        layout.image(name).mkdir()
        (layout.image(name) / "result").symlink_to("/nix/store/gone")
    put_vm(layout, make_vm(origin={"image": "own", "source": "x"}))
    ran = v("image", "gc", "--dry-run")
    assert "# other: its store path is gone" in ran.out
    assert "kept own, which no template of this configuration names: web was created from it" in ran.err
    ran = v("image", "gc")
    assert ran.err.startswith("released other; `nix-store --gc` frees their space\n")
    assert [path.name for path in layout.images.iterdir()] == ["own"]


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (Update("/nix/store/a", "/nix/store/a"), "tiny is current\n"),
        (Update("/nix/store/a", "/nix/store/b"), "updated tiny: /nix/store/a -> /nix/store/b\n"),
        (Update(None, "/nix/store/b"), "updated tiny: not built -> /nix/store/b\n"),
    ],
)
def test_an_update_says_from_what_to_what(done: Update, said: str, v: V, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "update", lambda *_: done)
    assert v("image", "update", "tiny") == (0, "", said)


def test_of_several_updates_each_failure_is_told_and_the_others_done(
    layout: Layout, v: V, monkeypatch: pytest.MonkeyPatch, disk: Path
) -> None:
    layout.paths.config.write_text(f'[[image]]\nname = "file"\npath = "{disk}"\n')
    real = image.update
    monkeypatch.setattr(
        image, "update", lambda node, name: real(node, name) if name == "file" else Update(None, "/nix/store/b")
    )
    ran = v("image", "update", "file", "tiny")
    assert ran.code == 3
    assert "error: file: image 'file' is a file" in ran.err
    assert "updated tiny" in ran.err
    assert "1 of 2 failed" in ran.err


def test_on_a_terminal_an_image_is_deleted_only_when_that_is_said(
    layout: Layout, v: V, monkeypatch: pytest.MonkeyPatch, host: FakeHost
) -> None:
    folder = layout.image("own")
    folder.mkdir()
    (folder / "disk.raw").write_bytes(bytes(512))
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    # Nothing is asked of what is refused anyway.
    refused = v("image", "delete", "tiny")
    assert (refused.code, "for good" in refused.err) == (5, False)
    ran = v("image", "delete", "own")
    assert (ran.code, ran.err.endswith("nothing was deleted\n"), folder.exists()) == (130, True, True)
    assert "Delete the image for good: own?" in ran.err
    assert v("image", "rm", "own", "--yes").code == 0
    assert not folder.exists()
