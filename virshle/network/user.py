"""The loopback port that leads to the ssh server of a VM on a `user` net."""

from __future__ import annotations

import socket
from uuid import UUID

from virshle.errors import ConflictError

FIRST, SPAN, TRIES = 22000, 10000, 5


def choose_port(vm: UUID) -> int:
    """A free port for that VM: the same port each time, unless another process has it. Raises ConflictError.

    The port is made from the uuid. So two VMs that start at the same time, even for two users, do not want one port.
    All ports are below Linux's ephemeral range, which begins at 32768 (ip_local_port_range), so no connection takes
    them."""
    ports = [FIRST + (vm.int + attempt) % SPAN for attempt in range(TRIES)]
    for port in ports:
        if _free(port):
            return port
    tried = ", ".join(map(str, ports))
    raise ConflictError(
        f"no loopback port is free for its ssh: tried {tried}", hint="see which processes have them: ss -ltnp"
    )


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
