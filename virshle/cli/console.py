"""`v console`."""

from __future__ import annotations

import os
import select
import signal
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from virshle.cli.complete import VM
from virshle.cli.options import with_node
from virshle.errors import UsageError

if TYPE_CHECKING:
    from virshle.service.console import Console
    from virshle.service.node import Node


KEYBOARD, SCREEN = 0, 1
_FORGET = b"\x1b[0m\x1b[?25h\x1b[?1047l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\r\n"
"""Resets what a program in the guest may have changed in our terminal (xterm's ctlseqs): colours, the hidden cursor,
the second screen, reports of the mouse, marks around a paste."""


def _key(_: click.Context, __: click.Parameter, value: str) -> bytes:
    """`^]` is Ctrl-]: the character with its bits 5 and 6 cleared."""
    if len(value) != 2 or value[0] != "^" or not "@" <= value[1].upper() <= "_":
        raise click.BadParameter(f"{value!r} is not ^ followed by one of A-Z [ \\ ] ^ _")
    return bytes([ord(value[1].upper()) & 0x1F])


@click.command(
    epilog="\b\nExamples:\n  v console web              Ctrl-] leaves it\n  v console web -e ^A        Ctrl-A leaves it"
    "\n  v console web -r           look at it, and type nothing"
)
@click.argument("vm", shell_complete=VM)
@click.option("-r", "--read-only", "reading", is_flag=True, help="Show the console, and send nothing.")
@click.option("-e", "--escape", "key", default="^]", show_default=True, callback=_key, help="The key that leaves it.")
@with_node
def console(vm: str, reading: bool, key: bytes, node: Node) -> None:
    """Open a VM's console: its screen and its keyboard. Several users can have it open at the same time."""
    from virshle.service.console import Console

    if not (os.isatty(KEYBOARD) and os.isatty(SCREEN)):
        raise UsageError("a console needs a terminal", hint=f"to read the console without one: v logs {vm} -f")
    with Console(node, node.store.find(vm), typing=not reading) as opened:
        click.echo(_banner(opened, key, reading), err=True)
        with _raw():
            left = _relay(opened, key)
    click.echo(f"detached from {opened.name}" if left else f"{opened.name} has stopped", err=True)


def _banner(console: Console, key: bytes, reading: bool) -> str:
    size, others = os.get_terminal_size(KEYBOARD), console.others
    shared = f" with {others} other{'s' if others > 1 else ''}" if others > 0 else ""
    text = f"attached to {console.name}{shared}{', read-only' if reading else ''}; Ctrl-{chr(key[0] | 0x40)} leaves it"
    if console.paused:
        text += f"\n{console.name} is paused, and does not answer until you resume it: v resume {console.name}"
    if console.sized or reading:
        return text
    # A serial line does not carry the size, and the guest assumes 80 by 24.
    return f"{text}\nto tell the guest the size of this window: stty rows {size.lines} cols {size.columns}"


@contextmanager
def _raw() -> Iterator[None]:
    """Sets the terminal to raw mode: each key comes at once, and the terminal itself acts on none. Nothing waits until
    the output is written: on a stopped terminal that would never end."""
    before = termios.tcgetattr(KEYBOARD)

    def set_raw(*_: Any) -> None:
        tty.setraw(KEYBOARD, termios.TCSANOW)

    # If the process was stopped and continues, the shell has reset the terminal.
    handler = signal.signal(signal.SIGCONT, set_raw)
    try:
        set_raw()
        yield
    finally:
        signal.signal(signal.SIGCONT, handler)
        # The terminal itself may be gone.
        with suppress(termios.error):
            termios.tcsetattr(KEYBOARD, termios.TCSANOW, before)


def _relay(console: Console, key: bytes) -> bool:
    """Copies between the terminal and the guest. True if the user left the console, False if the VM has stopped. While
    the terminal takes no output, the guest's output is still read, and the key that leaves still works."""
    screen = _own(SCREEN)
    unshown, size, active, leaving = b"", None, time.monotonic(), True
    try:
        while True:
            wait = 0.01 if time.monotonic() - active < 1 else 0.1
            readable, _, _ = select.select([KEYBOARD, *console.filenos()], [screen] if unshown else [], [], wait)
            if KEYBOARD in readable:
                if not (keys := os.read(KEYBOARD, 4096)):
                    raise KeyboardInterrupt  # the terminal was hung up
                typed, left, _ = keys.partition(key)
                console.input(typed)
                if left:
                    return True
            if (now := os.get_terminal_size(KEYBOARD)) != size:
                size = now
                console.resize(now.lines, now.columns)
            console.pump()
            over = console.ended
            unshown = unshown or console.output()
            if over and not unshown:
                leaving = False
                return False
            if readable or unshown:
                active = time.monotonic()
            unshown = _show(screen, unshown)
    finally:
        with suppress(OSError, termios.error):
            if leaving:  # the last output must not wait until the terminal takes output again
                termios.tcflush(screen, termios.TCOFLUSH)
            _show(screen, _FORGET)
        os.close(screen)


def _own(terminal: int) -> int:
    """Opens the same terminal again, with O_NONBLOCK. On the descriptor that we have, the flag would hold for the shell
    too, and would stay set if we are killed. If the terminal cannot be opened, the result is a copy that blocks."""
    try:
        return os.open(os.ttyname(terminal), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return os.dup(terminal)


def _show(screen: int, text: bytes) -> bytes:
    """Writes as much as the terminal takes, and returns the rest."""
    with suppress(BlockingIOError):
        return text[os.write(screen, text) :] if text else b""
    return text
