"""Checks that a file is a complete raw disk image."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from shlex import quote

from virshle.errors import ConfigError, NotFoundError
from virshle.model.units import format_size

SECTOR = 512
_HEAD = 8192
"""Bytes at the beginning of a file that show its format."""
_GPT = b"EFI PART"
_UNPACKED = {
    b"\x1f\x8b": ("gzip", "gunzip -c"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd -c"),
    b"\xfd7zXZ\x00": ("xz", "unxz -c"),
    b"BZh": ("bzip2", "bunzip2 -c"),
    b"\x5d\x00\x00": ("lzma", "unlzma -c"),
    b"\x04\x22\x4d\x18": ("lz4", "unlz4 -c"),
}
"""Compressed files: how they begin, the name of the format, and the command that unpacks them."""
_ARCHIVES = {
    (0, b"PK\x03\x04"): ("zip", "unzip"),
    (0, b"7z\xbc\xaf\x27\x1c"): ("7z", "7z x"),
    (257, b"ustar"): ("tar", "tar -xf"),
}
_FOREIGN = {
    (0, b"QFI\xfb"): ("qcow2", "qcow2"),
    (0, b"KDMV"): ("vmdk", "vmdk"),
    (0, b"COWD"): ("vmdk", "vmdk"),
    (0, b"# Disk DescriptorFile"): ("vmdk", "vmdk"),
    (0, b"vhdxfile"): ("vhdx", "vhdx"),
    (0, b"conectix"): ("vhd", "vpc"),
    (-SECTOR, b"conectix"): ("vhd", "vpc"),
    (64, b"\x7f\x10\xda\xbe"): ("vdi", "vdi"),
    (0, b"QED\x00"): ("qed", "qed"),
    (0, b"WithoutFreeSpace"): ("parallels", "parallels"),
    (0, b"WithouFreSpacExt"): ("parallels", "parallels"),
}
"""Other disk images: the place and text of their mark, their name, and qemu-img's name (QEMU: block/*.c, the probe
function of each format)."""


def check_image(path: Path) -> int:
    """The size of a raw image, in bytes. Raises NotFoundError, or ConfigError, which says what is wrong with it."""
    size, head, tail = _read(path)
    _check_format(path, head, tail)
    _check_whole(path, head, size)
    return size


def _read(path: Path) -> tuple[int, bytes, bytes]:
    """The size of the file, its beginning, and its last sector. Raises NotFoundError, ConfigError."""
    try:
        # O_NONBLOCK: without it, to open a FIFO would wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(f"there is no disk image {path}", hint="check `path` in the template") from None
    except OSError as error:
        raise ConfigError(
            f"the disk image {path} cannot be read: {error.strerror}",
            hint=f"check its permissions: ls -l {quote(str(path))}",
        ) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"the disk image {path} is not a regular file", hint="give a raw image file")
        size = status.st_size
        return size, os.pread(handle, _HEAD, 0), os.pread(handle, SECTOR, max(size - SECTOR, 0))
    finally:
        os.close(handle)


def check_bootable(path: Path) -> None:
    """The check of a raw image. Raises ConfigError if it has no partition table (MBR or GPT)."""
    _, head, _ = _read(path)
    if head[SECTOR - 2 : SECTOR] != b"\x55\xaa":
        raise ConfigError(
            f"{path} cannot boot: it has no partition table",
            hint="give a cloud image, raw or qcow2; if it is compressed, unpack it first",
        )


def is_qcow2(path: Path) -> bool:
    """True for a complete qcow2 image, false for any other file. Raises ConfigError for a qcow2 image that needs
    another file or a key (QEMU: docs/interop/qcow2.txt), and for a file that cannot be read; NotFoundError if there is
    none."""
    _, head, _ = _read(path)
    if not head.startswith(b"QFI\xfb"):
        return False
    if len(head) < 104:
        raise ConfigError(f"{path} is a truncated qcow2 image", hint="copy it again")
    version, backing, _, _, _, encrypted = struct.unpack_from(">IQIIQI", head, 4)
    if version not in (2, 3):
        raise ConfigError(
            f"{path} is a qcow image with version {version}, which is not qcow2",
            hint=f"convert it once: {_convert(path, 'qcow')}",
        )
    (features,) = struct.unpack_from(">Q", head, 72) if version >= 3 else (0,)
    if backing or features & 4:
        raise ConfigError(
            f"{path} is not complete: a part of it is in another file, and virshle does not read that file",
            hint="if you trust the other file too, put both into one: "
            f"qemu-img convert -O qcow2 {quote(str(path))} WHOLE.qcow2",
        )
    if encrypted:
        raise ConfigError(f"{path} is encrypted", hint="decrypt it first: qemu-img convert --help")
    return True


def _check_format(path: Path, head: bytes, tail: bytes) -> None:
    if (found := _other_format(path, head, tail)) is not None:
        name, how = found
        raise ConfigError(
            f"the disk image {path} is {name}, and virshle clones raw images", hint=f"convert it once: {how}"
        )
    first = head[:SECTOR]
    if (b"\n" in first or first[:1] in (b"<", b"{")) and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in first):
        line = first.decode("ascii").strip().partition("\n")[0][:60]
        raise ConfigError(
            f"the disk image {path} is a text: it begins with {line!r}",
            hint="look at it: the download may be an error message",
        )


def _other_format(path: Path, head: bytes, tail: bytes) -> tuple[str, str] | None:
    """The name of the other format, and the command that makes a raw image from the file."""
    for magic, (name, tool) in _UNPACKED.items():
        if head.startswith(magic):
            return name, f"{tool} {quote(str(path))} >{quote(str(_raw(path)))}"
    for (at, magic), (name, tool) in _ARCHIVES.items():
        if head.startswith(magic, at):
            ova = name == "tar" and path.suffix.lower() == ".ova"
            after = "; then convert the disk from it: qemu-img convert -p -f vmdk -O raw DISK.vmdk DISK.raw"
            return ("ova", f"tar -xf {quote(str(path))}{after}") if ova else (name, f"{tool} {quote(str(path))}")
    for (at, magic), (name, qemu) in _FOREIGN.items():
        if (tail if at < 0 else head[at:]).startswith(magic):
            return name, _convert(path, qemu)
    return None


def _convert(path: Path, qemu: str) -> str:
    return f"qemu-img convert -p -f {qemu} -O raw {quote(str(path))} {quote(str(_raw(path)))}"


def _raw(path: Path) -> Path:
    raw = path.with_suffix(".raw")
    return raw if raw != path else path.with_name(f"{path.name}.raw")


def _check_whole(path: Path, head: bytes, size: int) -> None:
    if size == 0 or size % SECTOR:
        raise ConfigError(
            f"the disk image {path} is truncated: {size} bytes is not a multiple of {SECTOR}",
            hint="copy or build it again",
        )
    if not head.startswith(_GPT, SECTOR):
        if head.startswith(_GPT, 4096):
            raise ConfigError(
                f"the disk image {path} has a partition table for sectors of 4096 bytes, but a VM's disk has {SECTOR}",
                hint=f"build it with sectors of {SECTOR} bytes: systemd-repart --sector-size={SECTOR}, for example",
            )
        return
    # UEFI specification, 5.3.2: the copy of the header is in the last sector of the disk. Offset 32 has the number of
    # that sector, and offset 48 has the last sector that a partition can have.
    copy, _, usable = struct.unpack_from("<QQQ", head, SECTOR + 32)
    needed = (max(copy, usable) + 1) * SECTOR
    if needed > size:
        raise ConfigError(
            f"the disk image {path} is truncated: it has {format_size(size)}, but its partition table needs "
            f"{format_size(needed)}",
            hint="copy or build it again",
        )


def check_size(size: int, image: int, what: str = "") -> None:
    """Raises ConfigError if the disk is smaller than its image: a disk can only grow. `what`: the disk's name, for the
    message."""
    if size < image:
        whose = f"{what}: " if what else ""
        raise ConfigError(
            f"{whose}size {format_size(size)} is smaller than its image, which has {format_size(image)}",
            hint="a disk can only grow: give a larger size, or no size",
        )
