"""Requests to a VMM's socket, as data that can be shown and sent."""

from virshle.rpc.http import Http
from virshle.rpc.listen import Listen
from virshle.rpc.qmp import Qmp, Reply
from virshle.rpc.vsock import Vsock

__all__ = ["Http", "Listen", "Qmp", "Reply", "Vsock"]
