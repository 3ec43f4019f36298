"""How vmm.sh presses a VM's power button without virshle: it sends a request to the VMM's socket."""

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
    # -I: the working folder may have a file with the name of a module, and Python must not load it.
    "python3": f'python3 -Ic {quote(_PYTHON)} "$1"',
    "perl": f'perl -MIO::Socket::UNIX -e {quote(_PERL)} "$1"',
}
"""Programs that send their stdin to the socket $1 and print its answer. One is enough. A program may be removed while
the VM runs, so the next is tried if one fails."""


def presses(*requests: Http | Qmp) -> str:
    """Lines of sh for vmm.sh, which runs them in the runtime folder. Only the answer to the last request is printed."""
    lines = [f"send {quote(request.socket.name)} {quote(request.printf())}" for request in requests]
    return "; ".join([*(f"{line} >/dev/null" for line in lines[:-1]), lines[-1]])


def check_speakers(user: str | None) -> None:
    """Raises ConfigError if the user has none of the programs. systemd needs one of them to press the button."""
    for name in SPEAKERS:
        if program := find_program(name):
            try:
                own_path(program, user)
            except ConfigError:
                continue
            return
    raise missing("socat", "systemd needs socat, python3 or perl to shut a guest down, and none of them is here: ")
