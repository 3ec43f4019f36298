"""A guest with a console, as its VMM would have it."""

from __future__ import annotations

import os
import tty
from pathlib import Path

from virshle.errors import ConflictError
from virshle.service.console import Console
from virshle.service.node import Node
from virshle.vmm.driver import Place, Terminal


class Guest:
    """The VM's side: a FIFO and a log as QEMU has them, or a pty."""

    def __init__(self, node: Node, run: Path) -> None:
        self.entry = node.store.find("web")
        self.node, self.run = node, run
        self.log = self.entry.folder / "log/console.log"
        self.kept = self.entry.folder / "terminal.log"
        self.terminals: list[Terminal] = []
        """What the VMM will answer, one after the other; the last one for ever."""
        self.side = -1

    def fifo(self) -> None:
        os.mkfifo(self.run / "console.in")
        self.side = os.open(self.run / "console.in", os.O_RDWR | os.O_NONBLOCK)
        self.log.write_text("")

    def pty(self) -> None:
        """A new one; the last one is hung up."""
        self.close()
        self.side, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self.side, False)
        self.terminals = [Terminal(Path(os.ttyname(slave)), "pty")]
        os.close(slave)

    def console(self, place: Place) -> Terminal:
        """As a driver is asked."""
        assert place.run == self.run
        if not self.terminals:
            raise ConflictError("the guest reboots")
        return self.terminals.pop(0) if len(self.terminals) > 1 else self.terminals[0]

    def close(self) -> None:
        if self.side >= 0:
            os.close(self.side)
            self.side = -1

    def view(self, *, typing: bool = True) -> Console:
        return Console(self.node, self.entry, typing=typing)

    def heard(self) -> bytes:
        try:
            return os.read(self.side, 2**20)
        except (BlockingIOError, OSError):
            return b""

    def says(self, text: bytes) -> None:
        if self.terminals:
            os.write(self.side, text)
        else:
            with self.log.open("ab") as file:
                file.write(text)
