"""virshle: VMs from templates, on bare VMM processes. See docs/ for how it is made."""

__version__ = "0.1.0"
