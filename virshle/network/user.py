"""The loopback port by which a VM on a `user` net is reached."""

from __future__ import annotations

import socket
from uuid import UUID

from virshle.errors import ConflictError

FIRST, SPAN, TRIES = 22000, 10000, 5


def choose_port(vm: UUID) -> int:
    """A free port for that VM: the same one each time, unless something else has it. Raises ConflictError.

    It follows from the uuid, so that two VMs started at once, by two users even, do not reach for one port. All lie
    below Linux's ephemeral range, 32768 up (ip_local_port_range), so that no connection takes them.
    """
    ports = [FIRST + (vm.int + attempt) % SPAN for attempt in range(TRIES)]
    for port in ports:
        if _free(port):
            return port
    tried = ", ".join(map(str, ports))
    raise ConflictError(f"no loopback port is free for its ssh: tried {tried}", hint="see who has them: ss -ltnp")


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
