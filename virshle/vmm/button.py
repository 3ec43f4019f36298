"""How vmm.sh presses a VM's power button, without virshle: it says something to the VMM's socket."""

from __future__ import annotations

from shlex import quote

from virshle.errors import ConfigError
from virshle.exec import find_program
from virshle.exec.run import missing
from virshle.rpc import Http, Qmp
from virshle.vmm.account import own_path

_PYTHON = """
import socket, sys
vmm = socket.socket(socket.AF_UNIX)
vmm.connect(sys.argv[1])
vmm.sendall(sys.stdin.buffer.read())
vmm.shutdown(socket.SHUT_WR)
try:
    while said := vmm.recv(4096):
        sys.stdout.buffer.write(said)
except ConnectionResetError:
    pass  # cloud-hypervisor may end so what it has answered
"""
_PERL = '$vmm = IO::Socket::UNIX->new(shift) or die "$!\\n"; print $vmm <STDIN>; $vmm->shutdown(1); print <$vmm>'
SPEAKERS = {
    "socat": 'socat -t5 - "UNIX-CONNECT:$1"',
    # Without what its working folder may have under the name of a module.
    "python3": f'python3 -Ic {quote(_PYTHON)} "$1"',
    "perl": f'perl -MIO::Socket::UNIX -e {quote(_PERL)} "$1"',
}
"""Programs that can say what is on stdin to the socket $1, and show its answer. One is enough: as each may be removed
while the VM runs, the next is tried where one fails."""


def presses(*requests: Http | Qmp) -> str:
    """Lines of sh for vmm.sh, in the runtime folder; what is answered to the last one is shown."""
    lines = [f"send {quote(request.socket.name)} {quote(request.printf())}" for request in requests]
    return "; ".join([*(f"{line} >/dev/null" for line in lines[:-1]), lines[-1]])


def check_speakers(user: str | None) -> None:
    """Raises ConfigError where that user has none of the programs by which systemd can have the button pressed."""
    for name in SPEAKERS:
        if program := find_program(name):
            try:
                own_path(program, user)
            except ConfigError:
                continue
            return
    raise missing("socat", "systemd shuts a guest down by socat, python3 or perl, and there is none of them: ")
