"""Disks: looking at what is to be cloned, and the steps that clone and grow it."""

from virshle.disk.clone import blank, clone, need_space
from virshle.disk.inspect import SECTOR, check_image, check_size

__all__ = ["SECTOR", "blank", "check_image", "check_size", "clone", "need_space"]
