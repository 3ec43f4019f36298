"""The nets of VMs. `user` is the VMM's own network stack: it needs no privileges and no bridge."""

from virshle.network.user import choose_port

__all__ = ["choose_port"]
