"""Nets of VMs. `user`: the VMM's own network stack, which needs no privilege and no bridge."""

from virshle.network.user import choose_port

__all__ = ["choose_port"]
