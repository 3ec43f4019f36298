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
"""What a program of the guest's may have left in our terminal (xterm's ctlseqs): colours, no cursor, its own screen,
the mouse, marks of a paste."""


def _key(_: click.Context, __: click.Parameter, value: str) -> bytes:
    """`^]` is Ctrl-]: the character without its bits 5 and 6."""
    if len(value) != 2 or value[0] != "^" or not "@" <= value[1].upper() <= "_":
        raise click.BadParameter(f"{value!r} is not ^ and one of A-Z [ \\ ] ^ _")
    return bytes([ord(value[1].upper()) & 0x1F])


@click.command(
    epilog="\b\nExamples:\n  v console web              Ctrl-] leaves it\n  v console web -e ^A        Ctrl-A leaves it"
    "\n  v console web -r           only look"
)
@click.argument("vm", shell_complete=VM)
@click.option("-r", "--read-only", "reading", is_flag=True, help="Show it and send nothing.")
@click.option("-e", "--escape", "key", default="^]", show_default=True, callback=_key, help="The key that leaves it.")
@with_node
def console(vm: str, reading: bool, key: bytes, node: Node) -> None:
    """Open a VM's console: its screen and keyboard, shared with all who have it open."""
    from virshle.service.console import Console

    if not (os.isatty(KEYBOARD) and os.isatty(SCREEN)):
        raise UsageError("a console needs a terminal", hint=f"show what it says: v logs {vm} -f")
    with Console(node, node.store.find(vm), typing=not reading) as opened:
        click.echo(_banner(opened, key, reading), err=True)
        with _raw():
            left = _relay(opened, key)
    click.echo(f"detached from {opened.name}" if left else f"{opened.name} has stopped", err=True)


def _banner(console: Console, key: bytes, reading: bool) -> str:
    size, others = os.get_terminal_size(KEYBOARD), console.others
    shared = f" with {others} other{'s' if others > 1 else ''}" if others > 0 else ""
    told = f"attached to {console.name}{shared}{', read-only' if reading else ''}; Ctrl-{chr(key[0] | 0x40)} leaves it"
    if console.paused:
        told += f"\n{console.name} is paused, and answers nothing until it goes on: v resume {console.name}"
    if console.sized or reading:
        return told
    # A serial line carries none, and the guest takes it for 80 by 24.
    return f"{told}\nto tell the guest the size of this window: stty rows {size.lines} cols {size.columns}"


@contextmanager
def _raw() -> Iterator[None]:
    """Keys come one by one and unread by the terminal, as long as this lasts. Nothing waits for what was printed: a
    terminal that is stopped would never let us go."""
    before = termios.tcgetattr(KEYBOARD)

    def set_raw(*_: Any) -> None:
        tty.setraw(KEYBOARD, termios.TCSANOW)

    # Who was stopped comes back to a terminal that the shell has reset.
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
    """Between the terminal and the guest: whether it was left, or the VM has stopped. The guest is heard, and the key
    that leaves is felt, also while the terminal takes no output."""
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
            if leaving:  # and what is said last must not wait until the terminal takes output
                termios.tcflush(screen, termios.TCOFLUSH)
            _show(screen, _FORGET)
        os.close(screen)


def _own(terminal: int) -> int:
    """The same terminal, not to be waited for. Opened anew, for the flag would be the shell's as well, and stay with it
    if we are killed; where that cannot be, it is waited for."""
    try:
        return os.open(os.ttyname(terminal), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return os.dup(terminal)


def _show(screen: int, text: bytes) -> bytes:
    """What is left of it, where the terminal took only a part."""
    with suppress(BlockingIOError):
        return text[os.write(screen, text) :] if text else b""
    return text
