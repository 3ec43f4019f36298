"""Disks: the checks of a file before it is cloned, and the steps that clone and grow it."""

from virshle.disk.clone import blank, clone, file_system, need_bytes, need_space, shares_blocks
from virshle.disk.convert import converted_size, from_qcow2
from virshle.disk.inspect import SECTOR, check_bootable, check_image, check_size, is_qcow2

__all__ = [
    "SECTOR",
    "blank",
    "check_bootable",
    "check_image",
    "check_size",
    "clone",
    "converted_size",
    "file_system",
    "from_qcow2",
    "is_qcow2",
    "need_bytes",
    "need_space",
    "shares_blocks",
]
