from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from virshle.errors import ConfigError
from virshle.image import Record, built, read_record
from virshle.image.found import record_file
from virshle.store.layout import image_link


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "image").mkdir()
    return tmp_path / "image"


def _built(folder: Path, *names: str) -> Path:
    target = folder.parent / "store"
    target.mkdir()
    for name in names:
        (target / name).write_text(f"{name}\n")
    image_link(folder).symlink_to(target)
    return target


def test_what_was_never_built_or_is_gone_is_not_built(folder: Path) -> None:
    assert built("x", folder) is None
    image_link(folder).symlink_to("/nix/store/gone")
    assert built("x", folder) is None


def test_a_file_is_the_disk(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "store.raw").write_text("")
    image_link(folder).symlink_to(tmp_path / "store.raw")
    found = built("x", folder)
    assert found is not None
    assert (found.disk, found.kernel) == (tmp_path / "store.raw", None)


@pytest.mark.parametrize("name", ["disk.raw", "nixos.raw", "nixos.img"])
def test_a_folder_has_one_disk(name: str, folder: Path) -> None:
    target = _built(folder, name, "README")
    found = built("x", folder)
    assert found is not None
    assert (found.disk, found.store_path, found.kernel, found.cmdline) == (target / name, target, None, "")


def test_disk_raw_is_taken_among_others(folder: Path) -> None:
    target = _built(folder, "disk.raw", "data.raw", "x.img")
    found = built("x", folder)
    assert found is not None
    assert found.disk == target / "disk.raw"


def test_with_a_kernel_it_is_booted_by_it(folder: Path) -> None:
    target = _built(folder, "disk.raw", "kernel", "initrd", "cmdline")
    found = built("x", folder)
    assert found is not None
    assert (found.kernel, found.initrd, found.cmdline) == (target / "kernel", target / "initrd", "cmdline")


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([], "has no disk"),
        (["disk.qcow2"], "not raw: .* has disk.qcow2"),
        (["a.raw", "b.raw"], r"has 2 disks: a\.raw, b\.raw"),
        (["disk.raw", "kernel"], "has only some of kernel, initrd and cmdline"),
        (["disk.raw", "kernel", "initrd"], "has only some of"),
    ],
)
def test_what_is_no_image_is_told(names: list[str], why: str, folder: Path) -> None:
    _built(folder, *names)
    with pytest.raises(ConfigError, match=f"image 'x' is .*{why}"):
        built("x", folder)


def test_a_record_is_read_as_it_was_written(folder: Path) -> None:
    when = datetime(2024, 5, 6, tzinfo=UTC)
    record = Record(name="x", source=".#x", store_path="/nix/store/x", nix="2.18", built=when, parts=("a_1",))
    record_file(folder).write_text(record.model_dump_json())
    assert read_record(folder) == record


def test_a_record_of_before_there_were_pins_is_read(folder: Path) -> None:
    old = '{"version": 1, "name": "x", "source": ".#x", "args": {}, "store_path": "/nix/store/x", "nix": "2.8.0", '
    record_file(folder).write_text(old + '"built": "2024-05-06T07:08:09Z", "parts": []}')
    record = read_record(folder)
    assert record is not None
    assert (record.store_path, record.pin) == ("/nix/store/x", None)


@pytest.mark.parametrize("text", [None, "", "{}", '{"name": 1}'])
def test_a_missing_or_broken_record_is_none(text: str | None, folder: Path) -> None:
    if text is not None:
        record_file(folder).write_text(text)
    assert read_record(folder) is None


@pytest.mark.parametrize("name", ["disk.raw", "kernel", "initrd", "cmdline"])
def test_what_leads_to_the_hosts_own_files_is_no_image(name: str, folder: Path, tmp_path: Path) -> None:
    target = _built(folder, "disk.raw", "kernel", "initrd", "cmdline")
    other = target.parent / "store-of-others"
    other.write_text("a path in the same store\n")
    (target / name).unlink()
    (target / name).symlink_to(other)
    assert built("x", folder) is not None
    for elsewhere in ("/etc/hostname", "../../secret", "/nowhere"):
        (target / name).unlink()
        (target / name).symlink_to(elsewhere)
        (tmp_path.parent / "secret").write_text("secret\n")
        with pytest.raises(ConfigError) as caught:
            built("x", folder)
        assert any(part in caught.value.message for part in ("leads out of", "has only some"))


def test_a_store_path_that_is_a_link_to_elsewhere_is_no_image(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "store").symlink_to("/etc")
    image_link(folder).symlink_to(tmp_path / "store")
    with pytest.raises(ConfigError, match="leads out of"):
        built("x", folder)
