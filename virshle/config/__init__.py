"""The configuration: found, read, merged with what is built in, checked whole; nothing else of the host."""

from virshle.config.load import Config, load
from virshle.config.paths import Paths
from virshle.config.schema import DiskTemplate, ImageConfig, NetTemplate, VmTemplate

__all__ = ["Config", "DiskTemplate", "ImageConfig", "NetTemplate", "Paths", "VmTemplate", "load"]
