"""virshle: VMs from templates, each one VMM process. docs/ explains how it works."""

__version__ = "0.1.0"
