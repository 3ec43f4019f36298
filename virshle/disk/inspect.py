"""Whether a file is a raw disk image, and a whole one."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

from virshle.errors import ConfigError, NotFoundError
from virshle.model.units import format_size

SECTOR = 512
_FORMATS = {
    b"QFI\xfb": "qcow2",
    b"KDMV": "vmdk",
    b"vhdxfile": "vhdx",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
}


def check_image(path: Path) -> int:
    """Bytes of a raw image. Raises NotFoundError, or ConfigError saying what is wrong with it."""
    size, head = _read(path)
    _check_content(path, head, size)
    return size


def _read(path: Path) -> tuple[int, bytes]:
    """Its size, and its first two sectors. Raises NotFoundError, ConfigError."""
    try:
        # O_NONBLOCK: opening a FIFO would wait for its writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(f"there is no disk image {path}", hint="check `path` in the template") from None
    except OSError as error:
        raise ConfigError(
            f"the disk image {path} cannot be read: {error.strerror}", hint=f"look at its permissions: ls -l {path}"
        ) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"the disk image {path} is no regular file", hint="give a raw image file")
        return status.st_size, os.pread(handle, 2 * SECTOR, 0)
    finally:
        os.close(handle)


def check_bootable(path: Path) -> None:
    """Of a raw image. Raises ConfigError where no partition table is on it, neither an MBR nor a GPT."""
    _, head = _read(path)
    if head[SECTOR - 2 : SECTOR] != b"\x55\xaa":
        raise ConfigError(
            f"{path} is no disk that could boot: it has no partition table",
            hint="give a cloud image, raw or qcow2; unpack a compressed one first",
        )


def is_qcow2(path: Path) -> bool:
    """Whether it is one that is whole in itself: whoever reads it reads no other file, and needs no key (QEMU:
    docs/interop/qcow2.txt). Raises NotFoundError, ConfigError."""
    _, head = _read(path)
    if not head.startswith(b"QFI\xfb"):
        return False
    if len(head) < 104:
        raise ConfigError(f"{path} is a truncated qcow2 image", hint="copy it again")
    version, backing, _, _, _, encrypted = struct.unpack_from(">IQIIQI", head, 4)
    (features,) = struct.unpack_from(">Q", head, 72) if version >= 3 else (0,)
    if backing or features & 4:
        raise ConfigError(
            f"{path} is not whole: the rest of it is in another file, which is not read for it",
            hint=f"if you trust that too, make it whole: qemu-img convert -O qcow2 {path} WHOLE.qcow2",
        )
    if encrypted:
        raise ConfigError(f"{path} is encrypted", hint="decrypt it first: qemu-img convert --help")
    return True


def _check_content(path: Path, head: bytes, size: int) -> None:
    for magic, name in _FORMATS.items():
        if head.startswith(magic):
            how = f"qemu-img convert -p -O raw {path} {path.with_suffix('.raw')}"
            unpack = {"gzip": f"gunzip -k {path}", "zstd": f"unzstd {path}", "xz": f"unxz -k {path}"}
            raise ConfigError(
                f"the disk image {path} is {name}, and virshle clones raw ones",
                hint=f"convert it once: {unpack.get(name, how)}",
            )
    if size == 0 or size % SECTOR:
        raise ConfigError(
            f"the disk image {path} is truncated: {size} bytes are not whole sectors of {SECTOR}",
            hint="copy or build it again",
        )
    # UEFI specification, 5.3.2: at offset 32 of the GPT header, the sector of its copy, the disk's last.
    if head[SECTOR : SECTOR + 8] == b"EFI PART":
        (last,) = struct.unpack_from("<Q", head, SECTOR + 32)
        if (last + 1) * SECTOR > size:
            raise ConfigError(
                f"the disk image {path} is truncated: it has {format_size(size)}, its partition table says "
                f"{format_size((last + 1) * SECTOR)}",
                hint="copy or build it again",
            )


def check_size(size: int, image: int, what: str = "") -> None:
    """A disk is only ever grown. `what`: the disk, for the message. Raises ConfigError."""
    if size < image:
        whose = f"{what}: " if what else ""
        raise ConfigError(
            f"{whose}size {format_size(size)} is smaller than its image, which has {format_size(image)}",
            hint="a disk can only grow: give a larger size, or none",
        )
