"""Disks: looking at what is to be cloned, and the steps that clone and grow it."""

from virshle.disk.clone import blank, clone, file_system, need_space, shares_blocks
from virshle.disk.inspect import SECTOR, check_image, check_size

__all__ = ["SECTOR", "blank", "check_image", "check_size", "clone", "file_system", "need_space", "shares_blocks"]
