"""Makes the definition of a VM from a template and the sources of its disks. Reads and changes nothing on the host."""

from virshle.template.define import Identity, Source, define, disk_size, unsupported_nets

__all__ = ["Identity", "Source", "define", "disk_size", "unsupported_nets"]
