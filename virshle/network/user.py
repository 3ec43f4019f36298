"""The loopback port by which a VM on a `user` net is reached."""

from __future__ import annotations

import socket

from virshle.errors import ConflictError

FIRST, SPAN, TRIES = 22000, 2000, 5


def choose_port(number: int) -> int:
    """A free port for the VM of that number: the same one each time, unless something else has it.

    All lie below Linux's ephemeral range, 32768 up (ip_local_port_range), so that no connection takes them.
    Raises ConflictError.
    """
    for attempt in range(TRIES):
        port = FIRST + number % SPAN + attempt * SPAN
        if _free(port):
            return port
    raise ConflictError(
        f"no loopback port is free for VM number {number}: tried {TRIES} from {FIRST + number % SPAN} on",
        hint="see who has them: ss -ltnp",
    )


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
