"""From a template and what its disks are cloned from to the definition of a VM. Pure."""

from virshle.template.define import Identity, Source, define, disk_size, unsupported_nets

__all__ = ["Identity", "Source", "define", "disk_size", "unsupported_nets"]
