"""What holds for all levels."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Who runs us by nohup or by a shell's & ignores signals, and so would all that we start, for ever."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
