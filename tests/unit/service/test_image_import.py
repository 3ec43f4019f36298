from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.support import make_vm, put_vm, snapshot, told
from virshle.config.load import load
from virshle.errors import ConfigError, ConflictError, HostError, NotFoundError, UsageError
from virshle.fs import Lock
from virshle.service.create import Order, create
from virshle.service.image import build, image_source
from virshle.service.image_gc import Collected, collect
from virshle.service.image_import import delete_images, import_image
from virshle.service.image_list import image_rows
from virshle.service.node import Node
from virshle.store import Layout

DISK = bytes(510) + b"\x55\xaa" + bytes(512)
QCOW2 = b"QFI\xfb\0\0\0\2" + bytes(200)
TEMPLATE = '[[template.vm]]\nname = "t"\n[[template.vm.disk]]\nname = "os"\nimage = "debian"\n'


@pytest.fixture
def node(layout: Layout, host: FakeHost) -> Node:
    return Node(layout.paths)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "debian.raw"
    path.write_bytes(DISK)
    return path


def _anew(node: Node) -> Node:
    """The next command's."""
    return Node(node.paths)


def test_an_import_needs_no_configuration(node: Node, file: Path) -> None:
    assert import_image(node, file) == "debian"
    node = _anew(node)
    (row,) = (row for row in image_rows(node, check=True) if row["name"] == "debian")
    assert (row["built"], row["virtual"], row["source"], row["current"]) == (True, 1024, str(file), None)
    assert row["when"]
    assert node.layout.image("debian").joinpath("disk.raw").read_bytes() == DISK
    source = image_source(node, "debian")
    assert (source.path, source.image, source.foreign) == (node.paths.imported("debian"), "debian", True)


def test_a_template_may_name_it_and_its_guest_is_asked_by_ssh(node: Node, file: Path, firmware: None) -> None:
    node.paths.config.write_text(TEMPLATE)
    with pytest.raises(ConfigError, match="problem") as caught:
        load(node.paths)
    assert "no image named 'debian'" in told(caught.value)
    node.paths.config.write_text("")
    import_image(node, file)
    node.paths.config.write_text(TEMPLATE)
    (vm,) = create(_anew(node), Order("t", "web"))
    assert (vm.origin.image, vm.ready) == ("debian", "ssh")


def test_qcow2_is_converted_told_its_format(node: Node, file: Path, host: FakeHost) -> None:
    host.have("qemu-img")

    def answer(words: tuple[str, ...]) -> str:
        if words[0] == "convert":
            Path(words[-1]).write_bytes(DISK)
        return json.dumps([{"length": 512, "data": True}, {"length": 2**60, "data": False}])

    host.answers["qemu-img"] = answer
    file.write_bytes(QCOW2)
    import_image(node, file)
    calls = [argv for argv in host.calls if argv[0] == "qemu-img"]
    assert [argv[1] for argv in calls] == ["check", "map", "convert"]
    assert all(argv[argv.index("-f") + 1] == "qcow2" for argv in calls)
    assert node.paths.imported("debian").read_bytes() == DISK


@pytest.mark.parametrize("verb", ["cp", "sync", "mv"])
def test_what_fails_leaves_nothing(verb: str, node: Node, file: Path, host: FakeHost) -> None:
    node.folders()
    before = snapshot(node.paths.state)

    def fail(argv: tuple[str, ...]) -> None:
        if argv[0] == verb:
            raise HostError("no")

    host.before = fail
    with pytest.raises(HostError):
        import_image(node, file)
    assert snapshot(node.paths.state) == before


def test_a_dry_import_does_nothing(node: Node, file: Path) -> None:
    before = snapshot(node.paths.state)
    shown: list[str] = []
    import_image(replace(node, dry_run=shown.append), file)
    assert any("cp --reflink=auto --sparse=always" in text for text in shown)
    assert snapshot(node.paths.state) == before


@pytest.mark.parametrize(
    ("name", "error"), [("tiny", ConflictError), ("a b", UsageError), ("", UsageError), ("..", UsageError)]
)
def test_a_name_that_cannot_be_is_refused(name: str, error: type[Exception], node: Node, file: Path) -> None:
    with pytest.raises(error):
        import_image(node, file, name)


def test_a_name_that_is_taken_is_refused_also_where_the_configuration_does_not_know(node: Node, file: Path) -> None:
    stale = _anew(node)
    assert "debian" not in stale.config.images
    import_image(node, file)
    for who in (stale, _anew(node)):
        with pytest.raises(ConflictError, match="there is an image 'debian' already"):
            import_image(who, file)
    node.layout.image("built").mkdir()
    with pytest.raises(ConflictError, match="no configuration names"):
        import_image(_anew(node), file, "built")


def test_what_was_left_is_cleared_where_nobody_works_on_it(node: Node, file: Path) -> None:
    for name in (".new-debian", ".new-x", ".del-y"):
        (node.layout.images / name).mkdir()
        (node.layout.images / name / "disk.raw").write_text("half")
    with Lock(node.layout.images / ".new-x"):
        import_image(node, file)
        assert {path.name for path in node.layout.images.iterdir()} == {".new-x", "debian"}
    collect(_anew(node))
    assert [path.name for path in node.layout.images.iterdir()] == ["debian"]


def test_it_is_not_let_go_of_by_itself_and_not_built(node: Node, file: Path) -> None:
    import_image(node, file)
    node = _anew(node)
    assert collect(node) == Collected([], {})
    with pytest.raises(ConfigError, match="there is nothing to build") as caught:
        build(node, "debian")
    assert "v image delete" in caught.value.hint


def test_it_is_deleted_when_nothing_needs_it(node: Node, file: Path, layout: Layout) -> None:
    import_image(node, file)
    put_vm(layout, make_vm(origin={"image": "debian", "source": "x"}))
    node.paths.config.write_text(TEMPLATE)
    with pytest.raises(ConflictError, match="named by template t"):
        delete_images(_anew(node), ["debian"], force=True)
    node.paths.config.write_text("")
    with pytest.raises(ConflictError, match="VMs were created from image 'debian': web"):
        delete_images(_anew(node), ["debian"])
    with pytest.raises(NotFoundError):
        delete_images(_anew(node), ["debian", "debain"], force=True)
    assert node.paths.imported("debian").exists()
    delete_images(_anew(node), ["debian"], force=True)
    assert list(node.layout.images.iterdir()) == []


def test_what_no_configuration_names_is_deleted_by_its_folder(node: Node, layout: Layout) -> None:
    """As gc keeps what VMs were made of."""
    folder = layout.images / "old"
    folder.mkdir(parents=True)
    (folder / "result").symlink_to("/nix/store/gone")
    put_vm(layout, make_vm(origin={"image": "old", "source": "x"}))
    with pytest.raises(ConflictError, match="VMs were created from image 'old': web"):
        delete_images(node, ["old"])
    delete_images(node, ["old"], force=True)
    assert not folder.exists()


def test_who_waited_for_the_lock_looks_again(node: Node, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = layout.images / "old"
    folder.mkdir(parents=True)
    hold = Node.hold

    def slow(self: Node, *words: Any, **more: Any) -> bool:
        put_vm(layout, make_vm(origin={"image": "old", "source": "x"}))
        return hold(self, *words, **more)

    monkeypatch.setattr(Node, "hold", slow)
    with pytest.raises(ConflictError, match="VMs were created from image 'old': web"):
        delete_images(node, ["old"])
    assert folder.is_dir()


def test_what_is_not_ours_is_not_deleted(node: Node, file: Path) -> None:
    node.paths.config.write_text(f'[[image]]\nname = "mine"\npath = "{file}"\n')
    with pytest.raises(ConflictError, match="is your own file"):
        delete_images(node, ["mine"])
    node.paths.config.write_text('[[image]]\nname = "own"\nnix = ".#x"\n')
    with pytest.raises(ConflictError, match="is not built"):
        delete_images(_anew(node), ["own"])
    assert file.exists()


def test_a_configured_image_takes_the_place_of_an_imported_one_which_stays(
    node: Node, file: Path, tmp_path: Path
) -> None:
    import_image(node, file)
    (tmp_path / "other.raw").write_bytes(bytes(512))
    node.paths.config.write_text('[[image]]\nname = "debian"\npath = "other.raw"\n')
    node = _anew(node)
    assert image_source(node, "debian").path == tmp_path / "other.raw"
    assert not image_source(node, "debian").foreign
    (node.layout.image("debian") / "result").symlink_to("/nix/store/gone")
    node.paths.config.write_text("")
    assert collect(_anew(node)) == Collected([], {})
    assert node.paths.imported("debian").exists()
