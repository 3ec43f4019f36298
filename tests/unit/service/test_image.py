from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.support import make_vm, put_vm
from virshle.errors import ConfigError, ConflictError, HostError, NotFoundError
from virshle.exec import Command, Result
from virshle.fs import Lock, try_lock
from virshle.image import read_record
from virshle.image.found import record_file
from virshle.model.vm import Pin
from virshle.nix import NixHost
from virshle.plan import Apply
from virshle.service.create import Order, create
from virshle.service.image import Update, build, ensure_built, hold_images, image_source, update
from virshle.service.image_gc import Collected, collect
from virshle.service.image_import import delete_images
from virshle.service.image_list import image_rows
from virshle.service.node import Node
from virshle.service.share import note_config
from virshle.store import Layout
from virshle.store.layout import image_link


@pytest.fixture
def node(layout: Layout, host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """With images `flake`, `file` (a raw file) and what is built in; nix is faked by `nix`."""
    (tmp_path / "file.raw").write_bytes(b"\0" * 512)
    layout.paths.config.write_text(
        f'[[image]]\nname = "flake"\nnix = ".#x"\n[[image]]\nname = "file"\npath = "{tmp_path / "file.raw"}"\n'
    )
    monkeypatch.setattr("virshle.service.image.find_nix", lambda _: NixHost("nix", (2, 18), "/nix/store"))
    return Node(layout.paths)


class FakeNix(list[Command]):
    """Builds a store path with one disk.raw; holds what was built. The flake is what `revision` says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.revision = "0123456789abcdef0123"
        self.asked: list[tuple[str, ...]] = []
        """Of what would be built, and which flake that is."""
        self.build("store-path")

    def build(self, name: str) -> None:
        """What is built from now on."""
        self.store = self.folder / name
        self.store.mkdir()
        (self.store / "disk.raw").write_bytes(b"\0" * 1024)

    def follow(self, command: Command, on_line: object, **_: object) -> Result:
        return Result(command, 0, self._do(command), "", 0.1)

    def _do(self, command: Command) -> str:
        argv = command.argv
        if "metadata" in argv:
            self.asked.append(argv)
            url = f"git+file://{argv[-1]}"
            locked = {"type": "git", "rev": self.revision, "narHash": "sha256-x"}
            return json.dumps({"originalUrl": url, "url": f"{url}?rev={self.revision}", "locked": locked})
        if "--dry-run" in argv:
            self.asked.append(argv)
            return json.dumps([{"outputs": {"out": str(self.store)}}])
        self.append(command)
        out = Path(argv[argv.index("--out-link") + 1])
        out.unlink(missing_ok=True)
        out.symlink_to(self.store)
        return ""


@pytest.fixture
def nix(tmp_path: Path, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> FakeNix:
    fake = FakeNix(tmp_path)
    host.have("nix-store")
    host.answers["nix-store"] = "/nix/store/x.drv\n"
    monkeypatch.setattr("virshle.exec.follow", fake.follow)
    return fake


def test_an_image_is_built_when_it_is_wanted_and_once(node: Node, nix: FakeNix, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="not there"):
        image_source(node, "flake")
    ensure_built(node, "flake")
    source = image_source(node, "flake")
    assert (source.path, source.size, source.image) == (tmp_path / "store-path/disk.raw", 1024, "flake")
    assert (source.described, source.store_path) == (f"{tmp_path}#x", str(tmp_path / "store-path"))
    ensure_built(node, "flake")
    assert len(nix) == 1


def test_what_was_built_is_noted(node: Node, nix: FakeNix, layout: Layout, tmp_path: Path) -> None:
    assert build(node, "flake") == str(tmp_path / "store-path")
    record = read_record(layout.image("flake"))
    assert record is not None
    assert (record.source, record.store_path, record.nix) == (f"{tmp_path}#x", str(tmp_path / "store-path"), "2.18")
    assert record.pin == _pin(node, nix)
    source = image_source(node, "flake")
    assert (source.pin, source.derivation) == (record.pin, "/nix/store/x.drv")


def _pin(node: Node, nix: FakeNix) -> Pin:
    flake = f"git+file://{node.paths.config.parent}"
    locked = f"{flake}?rev={nix.revision}"
    return Pin(flake=flake, locked=locked, attribute="x", nar_hash="sha256-x", revision=nix.revision)


def test_what_is_noted_is_what_is_built(node: Node, nix: FakeNix) -> None:
    build(node, "flake")
    assert nix[0].argv[-1] == _pin(node, nix).installable
    assert nix[0].argv[-1].endswith("?rev=0123456789abcdef0123#x")


def test_a_pin_is_not_taken_for_that_of_another_build(node: Node, nix: FakeNix, layout: Layout, tmp_path: Path) -> None:
    build(node, "flake")
    nix.build("by-hand")
    image_link(layout.image("flake")).unlink()
    image_link(layout.image("flake")).symlink_to(nix.store)
    assert image_source(node, "flake").pin is None
    rows = {row["name"]: row for row in image_rows(node)}
    assert (rows["flake"]["built"], rows["flake"]["revision"], rows["flake"]["when"]) == (True, None, None)


def test_an_update_tells_from_what_to_what(node: Node, nix: FakeNix, tmp_path: Path) -> None:
    first = str(tmp_path / "store-path")
    assert update(node, "flake") == Update(None, first)
    assert update(node, "flake") == Update(first, first)
    nix.build("second")
    assert update(node, "flake") == Update(first, str(tmp_path / "second"))
    assert all("--refresh" in argv for argv in nix.asked)


def _current(node: Node) -> Any:
    return next(row["current"] for row in image_rows(node, check=True) if row["name"] == "flake")


def test_only_who_wants_to_know_has_the_source_looked_at(node: Node, nix: FakeNix) -> None:
    assert _current(node) is None
    build(node, "flake")
    nix.asked.clear()
    assert [row["current"] for row in image_rows(node)] == [None] * 4
    assert nix.asked == []


def test_the_very_same_flake_is_current_and_not_evaluated(node: Node, nix: FakeNix) -> None:
    build(node, "flake")
    nix.asked.clear()
    assert _current(node) == "current"
    assert [("metadata" in argv, "--refresh" in argv) for argv in nix.asked] == [(True, True)]


def test_a_flake_that_moved_is_outdated_where_it_gives_something_else(node: Node, nix: FakeNix) -> None:
    build(node, "flake")
    nix.revision = "f" * 40
    assert _current(node) == "current"
    nix.build("second")
    assert _current(node) == "outdated"
    build(node, "flake")
    assert _current(node) == "current"


def test_a_source_that_cannot_be_looked_at_is_the_problem_of_one_row(
    node: Node, nix: FakeNix, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(node, "flake")

    def fail(command: Command, *_: object, **__: object) -> Result:
        return Result(command, 1, "", "", 0.1)

    monkeypatch.setattr("virshle.exec.follow", fail)
    rows = {row["name"]: row for row in image_rows(node, check=True)}
    assert "failed with exit code 1" in rows["flake"]["problem"]
    assert (rows["flake"]["built"], rows["flake"]["current"], rows["file"]["problem"]) == (True, None, None)


def test_a_failed_build_leaves_the_old_one(
    node: Node, nix: FakeNix, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(node, "flake")

    def fail(*_: object, **__: object) -> None:
        raise HostError("nix failed")

    monkeypatch.setattr("virshle.exec.follow", fail)
    with pytest.raises(HostError, match="nix failed"):
        build(node, "flake")
    assert image_link(layout.image("flake")).is_symlink()
    assert image_source(node, "flake").size == 1024


def test_a_build_that_made_no_link_is_not_taken_for_the_one_before(
    node: Node, nix: FakeNix, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(node, "flake")
    before = read_record(layout.image("flake"))

    def other_output(command: Command, *_: object, **__: object) -> Result:
        if "--out-link" not in command.argv:
            return nix.follow(command, print)
        (layout.image("flake") / "result-dev").symlink_to(nix.store)
        return Result(command, 0, "", "", 0.1)

    monkeypatch.setattr("virshle.exec.follow", other_output)
    with pytest.raises(ConfigError, match="no output `out`, but dev"):
        build(node, "flake")
    assert read_record(layout.image("flake")) == before


def test_what_nix_takes_to_be_there_and_is_not_is_told_with_what_mends_it(node: Node, nix: FakeNix) -> None:
    shutil.rmtree(nix.store)
    with pytest.raises(HostError, match="is not there") as caught:
        build(node, "flake")
    assert f"nix-store --repair-path {nix.store}" in caught.value.hint


def test_a_file_is_taken_as_it_is(node: Node, nix: FakeNix, tmp_path: Path) -> None:
    assert image_source(node, "file").path == tmp_path / "file.raw"
    with pytest.raises(ConfigError, match="there is nothing to build"):
        build(node, "file")
    assert nix == []


def test_the_built_in_nixos_says_what_it_needs(
    node: Node, nix: FakeNix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virshle.image.plan._SOURCE", tmp_path)
    with pytest.raises(ConfigError) as caught:
        build(node, "nixos")
    assert "[[image]]" in caught.value.hint
    monkeypatch.setenv("VIRSHLE_FLAKE", "path:/v")
    build(node, "nixos")
    assert nix[0].argv[-1].endswith(".image-nixos")


def test_an_unknown_image_is_not_found(node: Node) -> None:
    with pytest.raises(NotFoundError) as caught:
        image_source(node, "flaek")
    assert "flake" in caught.value.hint


def test_a_dry_build_does_nothing(node: Node, nix: FakeNix, layout: Layout) -> None:
    shown: list[str] = []
    build(replace(node, dry_run=shown.append), "flake")
    assert any("nix build" in text for text in shown)
    assert nix == []
    assert list(layout.images.iterdir()) == []


def test_rows_tell_what_is_built_how_large_and_for_whom(node: Node, nix: FakeNix, layout: Layout) -> None:
    build(node, "flake")
    put_vm(layout, make_vm(origin={"image": "flake", "source": ".#x"}))
    rows = {row["name"]: row for row in image_rows(node)}
    assert (rows["flake"]["built"], rows["flake"]["virtual"], rows["flake"]["used_by"]) == (True, 1024, "web")
    assert (rows["file"]["built"], rows["file"]["virtual"]) == (True, 512)
    assert (rows["tiny"]["built"], rows["tiny"]["size"], rows["tiny"]["problem"]) == (False, None, None)


def test_a_row_of_an_image_with_a_problem_tells_it(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file.raw").unlink()
    rows = {row["name"]: row for row in image_rows(node)}
    assert "there is no disk image" in rows["file"]["problem"]


def test_images_that_no_template_names_are_let_go_of(node: Node, nix: FakeNix, layout: Layout) -> None:
    build(node, "flake")
    (layout.image("tiny")).mkdir()
    assert collect(node) == Collected(["flake"], {})
    assert [path.name for path in layout.images.iterdir()] == ["tiny"]


def test_an_image_of_which_vms_were_made_is_kept_and_they_are_named(node: Node, nix: FakeNix, layout: Layout) -> None:
    build(node, "flake")
    put_vm(layout, make_vm(origin={"image": "flake", "source": ".#x"}))
    assert collect(node) == Collected([], {"flake": "web was made of it"})
    assert image_link(layout.image("flake")).is_symlink()


def test_a_dry_gc_tells_what_would_go_and_its_size(node: Node, nix: FakeNix, layout: Layout) -> None:
    build(node, "flake")
    shown: list[str] = []
    collect(replace(node, dry_run=shown.append))
    assert shown[0] == f"# flake: 0B on disk, {nix.store}" or "KiB on disk" in shown[0]
    assert "rm -rf" in shown[1]
    assert image_link(layout.image("flake")).is_symlink()


def test_what_a_build_left_that_failed_is_let_go_of(node: Node, layout: Layout) -> None:
    """Its name could not be given to another image."""
    (layout.images / "empty").mkdir()
    (layout.images / "tried/parts").mkdir(parents=True)
    assert collect(node) == Collected(["empty", "tried"], {})
    assert list(layout.images.iterdir()) == []


def test_what_another_configuration_means_by_the_same_words_is_built(
    node: Node, nix: FakeNix, layout: Layout, tmp_path: Path
) -> None:
    build(node, "flake")
    other = tmp_path / "other/config.toml"
    other.parent.mkdir()
    other.write_text(layout.paths.config.read_text())
    builds = len(nix)
    ensure_built(node, "flake")
    assert len(nix) == builds
    ensure_built(Node(replace(layout.paths, config=other)), "flake")
    assert len(nix) == builds + 1


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
    assert f"{other.paths.config} may name it, and cannot be read: " in collect(node).kept["flake"]


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


def _configure(layout: Layout, tmp_path: Path, image: str) -> Node:
    (tmp_path / "x.nix").write_text("")
    layout.paths.config.write_text(f'[[image]]\nname = "x"\n{image}\n')
    return Node(layout.paths)


def test_an_image_of_another_source_or_other_arguments_is_built_anew(
    node: Node, nix: FakeNix, layout: Layout, tmp_path: Path
) -> None:
    file = f'file = "{tmp_path / "x.nix"}"'
    for image in ('nix = ".#a"', 'nix = ".#b"', file, f'{file}\nargs = {{a = "1"}}', f'{file}\nargs = {{a = "2"}}'):
        before = len(nix)
        for _ in range(2):
            configured = _configure(layout, tmp_path, image)
            ensure_built(configured, "x")
            assert len(nix) == before + 1, image
    record = read_record(layout.image("x"))
    assert record is not None
    assert record.args == {"a": "2"}


def test_an_image_without_a_record_is_taken_for_what_is_configured(node: Node, nix: FakeNix, layout: Layout) -> None:
    build(node, "flake")
    record_file(layout.image("flake")).unlink()
    ensure_built(node, "flake")
    assert len(nix) == 1


def test_a_build_that_is_asked_for_is_done_again(node: Node, nix: FakeNix) -> None:
    build(node, "flake")
    build(node, "flake")
    assert len(nix) == 2
    build(node, "flake", again=False)
    assert len(nix) == 2


def test_who_waited_for_a_build_finds_it_built(
    node: Node, nix: FakeNix, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Node.hold

    def hold(self: Node, apply: Apply, folder: Path, **more: Any) -> bool:
        monkeypatch.setattr(Node, "hold", real)
        build(node, "flake")  # by another, in the meantime
        return real(self, apply, folder, **more)

    monkeypatch.setattr(Node, "hold", hold)
    ensure_built(node, "flake")
    assert len(nix) == 1


def test_an_image_is_locked_while_it_is_cloned_and_cannot_be_let_go_of(
    node: Node, nix: FakeNix, layout: Layout
) -> None:
    build(node, "flake")
    with node.apply() as apply:
        # What was never built cannot be held.
        assert hold_images(node, apply, ["tiny", "flake"], shared=True) == ["flake"]
        assert hold_images(node, apply, ["flake"], shared=True) == ["flake"]  # others may clone it too
        assert try_lock(layout.image("flake")) is None
    lock = try_lock(layout.image("flake"))
    assert lock is not None
    lock.release()


def test_whoever_locks_several_images_does_so_in_the_same_order(
    node: Node, nix: FakeNix, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two could wait for each other."""
    disks = "".join(f'[[template.vm.disk]]\nname = "{name}"\nimage = "{name}"\n' for name in ("b", "a"))
    images = "".join(f'[[image]]\nname = "{name}"\nnix = ".#x"\n' for name in ("b", "a"))
    layout.paths.config.write_text(f'{images}[[template.vm]]\nname = "two"\n{disks}')
    locked: list[str] = []
    real = Node.hold

    def hold(self: Node, apply: Apply, folder: Path, **more: Any) -> bool:
        if folder.parent == layout.images:
            locked.append(folder.name)
        return real(self, apply, folder, **more)

    def order(act: Callable[[Node], object], config: str = images) -> list[str]:
        for name in ("b", "a"):
            ensure_built(Node(layout.paths), name)
        layout.paths.config.write_text(config)
        locked.clear()
        act(Node(layout.paths))
        return locked.copy()

    monkeypatch.setattr(Node, "hold", hold)
    assert order(lambda node: create(node, Order("two", "web")), layout.paths.config.read_text()) == ["a", "b"]
    assert order(lambda node: delete_images(node, ["b", "a"], force=True)) == ["a", "b"]
    shutil.rmtree(layout.vm(Node(layout.paths).store.find("web").uuid))
    assert order(collect) == ["a", "b"]


def test_an_image_that_was_replaced_while_it_was_waited_for_is_held_all_the_same(
    node: Node, nix: FakeNix, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(node, "flake")
    folder = layout.image("flake")
    real = Node.hold

    def hold(self: Node, apply: Apply, folder: Path, **more: Any) -> bool:
        monkeypatch.setattr(Node, "hold", real)
        lock = Lock(folder)
        folder.rename(folder.with_name(".del-flake"))  # by another, who let go of it
        folder.mkdir()  # and a third wants it
        apply.hold(lock)
        return lock.still(folder)

    monkeypatch.setattr(Node, "hold", hold)
    with node.apply() as apply:
        assert hold_images(node, apply, ["flake"]) == ["flake"]
        assert try_lock(folder) is None


def test_a_relative_image_begins_in_the_folder_of_the_configuration(
    node: Node, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    near = _configure(layout, tmp_path, 'path = "file.raw"')
    assert image_source(near, "x").path == tmp_path / "file.raw"
    assert next(row for row in image_rows(near) if row["name"] == "x")["virtual"] == 512


def test_a_result_that_is_no_image_does_not_keep_another_source_from_being_built(
    node: Node, nix: FakeNix, layout: Layout, tmp_path: Path
) -> None:
    ensure_built(_configure(layout, tmp_path, 'nix = ".#a"'), "x")
    disk = tmp_path / "store-path/disk.raw"
    disk.rename(tmp_path / "kept")
    with pytest.raises(ConfigError, match="has no disk"):
        build(_configure(layout, tmp_path, 'nix = ".#bad"'), "x")
    (tmp_path / "store-path").rename(tmp_path / "bad")
    image_link(layout.image("x")).unlink()
    image_link(layout.image("x")).symlink_to(tmp_path / "bad")
    (tmp_path / "store-path").mkdir()
    (tmp_path / "kept").rename(disk)
    ensure_built(_configure(layout, tmp_path, 'nix = ".#good"'), "x")
    assert len(nix) == 3


def test_a_build_that_was_interrupted_before_its_record_is_not_taken_for_the_old_source(
    node: Node, nix: FakeNix, layout: Layout, tmp_path: Path
) -> None:
    build(node, "flake")
    other = tmp_path / "store-path-of-another-source"
    other.mkdir()
    (other / "disk.raw").write_bytes(b"\1" * 512)
    image_link(layout.image("flake")).unlink()
    image_link(layout.image("flake")).symlink_to(other)
    ensure_built(node, "flake")
    assert len(nix) == 2


def test_a_build_that_waited_for_gc_makes_its_folder_again(
    node: Node, nix: FakeNix, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Lock._take

    def take(self: Lock, kind: int, patience: float) -> None:
        monkeypatch.setattr(Lock, "_take", real)
        self.folder.rmdir()
        real(self, kind, patience)

    monkeypatch.setattr(Lock, "_take", take)
    try:
        build(node, "flake")
    except OSError as error:
        pytest.fail(str(error))
    assert image_source(node, "flake").size == 1024
