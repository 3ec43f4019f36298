"""Requests to a VMM's own socket, as data that can be shown and sent."""

from virshle.rpc.qmp import Qmp, Reply

__all__ = ["Qmp", "Reply"]
