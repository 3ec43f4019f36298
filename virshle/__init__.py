"""virshle: VMs from templates, run as plain VMM processes. docs/ explains how it works."""

__version__ = "0.1.0"
