from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from shlex import quote

import pytest

from tests.unit.support import open_descriptors, told
from virshle.disk import check_bootable, check_image, check_size, is_qcow2
from virshle.errors import ConfigError, NotFoundError

SECTOR = 512


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "disk.raw"


def _gpt(copy_at: int, *, usable: int = 0, sector: int = SECTOR) -> bytes:
    """`copy_at`, `usable`: in sectors, one more than the last."""
    header = b"EFI PART" + b"\0" * 24 + struct.pack("<QQQ", copy_at - 1, 0, max(usable - 1, 0))
    return b"\0" * sector + header.ljust(sector, b"\0")


@pytest.mark.parametrize("content", [b"\0" * SECTOR, b"x" * 8 * SECTOR, _gpt(8).ljust(8 * SECTOR, b"\0")])
def test_a_raw_image_has_its_size(content: bytes, image: Path) -> None:
    image.write_bytes(content)
    assert check_image(image) == len(content)


def test_a_larger_file_than_its_partition_table_says_is_whole(image: Path) -> None:
    image.write_bytes(_gpt(8).ljust(9 * SECTOR, b"\0"))
    assert check_image(image) == 9 * SECTOR


def test_a_link_to_an_image_is_one(image: Path, tmp_path: Path) -> None:
    image.write_bytes(b"\0" * SECTOR)
    (tmp_path / "link").symlink_to(image)
    assert check_image(tmp_path / "link") == SECTOR


def test_a_missing_image_is_not_found(image: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no disk image"):
        check_image(image)


@pytest.mark.parametrize(
    ("magic", "name", "how"),
    [
        (b"QFI\xfb", "qcow2", "qemu-img convert -p -f qcow2 -O raw"),
        (b"KDMV", "vmdk", "qemu-img convert"),
        (b"vhdxfile", "vhdx", "qemu-img convert"),
        (b"conectix", "vhd", "qemu-img convert -p -f vpc -O raw"),
        (b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0") + b"\x7f\x10\xda\xbe", "vdi", "-f vdi"),
        (b"# Disk DescriptorFile\n", "vmdk", "-f vmdk"),
        (b"QED\0", "qed", "-f qed"),
        (b"WithouFreSpacExt", "parallels", "-f parallels"),
        (b"\x1f\x8b", "gzip", "gunzip -c"),
        (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
        (b"\xfd7zXZ\x00", "xz", "unxz -c"),
        (b"BZh9", "bzip2", "bunzip2 -c"),
        (b"\x5d\0\0\x80\0", "lzma", "unlzma -c"),
        (b"\x04\x22\x4d\x18", "lz4", "unlz4 -c"),
        (b"PK\3\4", "zip", "unzip "),
        (b"7z\xbc\xaf\x27\x1c", "7z", "7z x "),
        (b"\0" * 257 + b"ustar", "tar", "tar -xf "),
    ],
)
def test_another_format_is_named_with_the_way_to_convert_it(magic: bytes, name: str, how: str, image: Path) -> None:
    image.write_bytes(magic.ljust(4 * SECTOR, b"\0"))
    with pytest.raises(ConfigError, match=f"is {name}, and virshle clones raw images") as caught:
        check_image(image)
    assert how in caught.value.hint


def test_the_end_of_a_fixed_vhd_says_what_it_is(image: Path) -> None:
    image.write_bytes(b"\1" * SECTOR + b"conectix".ljust(SECTOR, b"\0"))
    with pytest.raises(ConfigError, match="is vhd"):
        check_image(image)


def test_an_ova_is_called_by_its_name_with_both_steps(tmp_path: Path) -> None:
    image = tmp_path / "the vm.ova"
    image.write_bytes(b"vm.ovf".ljust(257, b"\0") + b"ustar".ljust(SECTOR, b"\0"))
    with pytest.raises(ConfigError, match="is ova") as caught:
        check_image(image)
    assert f"tar -xf '{image}'; then" in caught.value.hint
    assert "qemu-img convert -p -f vmdk" in caught.value.hint


def test_what_is_made_has_another_name(tmp_path: Path) -> None:
    for name, raw in (("a b.qcow2", "a b.raw"), ("a.raw", "a.raw.raw")):
        (tmp_path / name).write_bytes(b"QFI\xfb".ljust(SECTOR, b"\0"))
        with pytest.raises(ConfigError) as caught:
            check_image(tmp_path / name)
        assert caught.value.hint.endswith(f"-O raw {quote(str(tmp_path / name))} {quote(str(tmp_path / raw))}")


@pytest.mark.parametrize("text", ["<!DOCTYPE html>\n<title>404", "hello\n", "not found\n" * 512, '{"error": 404}'])
def test_a_text_is_called_one(text: str, image: Path) -> None:
    image.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"is a text: it begins with {text.splitlines()[0]!r}")):
        check_image(image)


def test_a_partition_table_for_larger_sectors_is_refused(image: Path) -> None:
    image.write_bytes(_gpt(64, sector=4096).ljust(64 * 4096, b"\0"))
    with pytest.raises(ConfigError, match="for sectors of 4096 bytes, but a VM's disk has 512"):
        check_image(image)


def test_one_for_either_size_of_sectors_is_taken(image: Path) -> None:
    image.write_bytes(_gpt(64).ljust(4096, b"\0") + _gpt(8, sector=4096)[4096:] + bytes(64 * SECTOR))
    check_image(image)


def test_an_image_that_ends_within_its_partitions_is_truncated(image: Path) -> None:
    image.write_bytes(_gpt(2, usable=9).ljust(8 * SECTOR, b"\0"))
    with pytest.raises(ConfigError, match="is truncated"):
        check_image(image)


@pytest.mark.parametrize("size", [0, 1, SECTOR - 1, SECTOR + 1])
def test_an_image_of_no_whole_sectors_is_truncated(size: int, image: Path) -> None:
    image.write_bytes(b"\0" * size)
    with pytest.raises(ConfigError, match=f"is truncated: {size} bytes"):
        check_image(image)


@pytest.mark.parametrize("said", [9, 1024, 2**63])
def test_an_image_that_ends_before_its_partition_table_says_is_truncated(said: int, image: Path) -> None:
    image.write_bytes(_gpt(said).ljust(8 * SECTOR, b"\0"))
    with pytest.raises(ConfigError, match="is truncated: it has 4KiB, but its partition table needs"):
        check_image(image)


def test_a_pipe_is_no_image_and_is_not_waited_for(image: Path) -> None:
    os.mkfifo(image)
    with pytest.raises(ConfigError, match="not a regular file"):
        check_image(image)


def test_a_device_is_no_image() -> None:
    with pytest.raises(ConfigError, match="not a regular file"):
        check_image(Path("/dev/zero"))


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(ConfigError, match="not a regular file"):
        check_image(tmp_path)
    assert open_descriptors() == before


def test_a_file_under_a_file_cannot_be_read(image: Path) -> None:
    image.write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be read: Not a directory"):
        check_image(image / "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="SKIPPED LOUDLY: root may read every file")
def test_an_unreadable_image_is_told_with_its_permissions(image: Path) -> None:
    image.write_bytes(b"\0" * SECTOR)
    image.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied") as caught:
        check_image(image)
    assert "ls -l" in caught.value.hint


@pytest.mark.parametrize(("size", "image_size"), [(2, 2), (3, 2)])
def test_a_disk_may_be_as_large_as_its_image_or_larger(size: int, image_size: int) -> None:
    check_size(size, image_size, "it")


def test_a_disk_is_never_shrunk() -> None:
    with pytest.raises(ConfigError) as caught:
        check_size(2**30, 2**31, "template 't', disk 'os'")
    assert "template 't', disk 'os': size 1GiB is smaller than its image, which has 2GiB" in told(caught.value)


def _qcow2(*, version: int = 3, backing: int = 0, encrypted: int = 0, features: int = 0) -> bytes:
    head = b"QFI\xfb" + struct.pack(">IQIIQI", version, backing, 7 if backing else 0, 16, 2**20, encrypted)
    return head.ljust(72, b"\0") + struct.pack(">Q", features) + bytes(1024)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (bytes(SECTOR), False),
        (_qcow2(), True),
        (_qcow2(version=2), True),
        (_qcow2(version=2, features=4), True),
        (_qcow2(features=1 | 8 | 16), True),
    ],
)
def test_a_qcow2_image_that_is_whole_is_known(content: bytes, found: bool, image: Path) -> None:
    image.write_bytes(content)
    assert is_qcow2(image) is found


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (_qcow2(backing=512), "in another file"),
        (_qcow2(version=2, backing=512), "in another file"),
        (_qcow2(features=4), "in another file"),
        (_qcow2(encrypted=2), "encrypted"),
        (_qcow2()[:50], "truncated"),
        (b"QFI\xfb", "truncated"),
        (_qcow2(version=1), "version 1, which is not qcow2"),
    ],
)
def test_a_qcow2_image_that_would_read_other_files_is_refused(content: bytes, why: str, image: Path) -> None:
    image.write_bytes(content)
    with pytest.raises(ConfigError, match=why):
        is_qcow2(image)


def test_a_disk_without_a_partition_table_boots_nothing(image: Path) -> None:
    image.write_bytes(bytes(2 * SECTOR))
    with pytest.raises(ConfigError, match="no partition table"):
        check_bootable(image)
    image.write_bytes(bytes(SECTOR - 2) + b"\x55\xaa" + bytes(SECTOR))
    check_bootable(image)
