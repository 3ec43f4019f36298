"""Reports how far a long step is. The steps report it, and the command line draws it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Protocol


class Progress(Protocol):
    def update(self, title: str, done: float, total: float, unit: str = "", now: str = "") -> None:
        """`done` of `total` (0: not known yet) units. Unit "B" means bytes. `now`: the current part."""

    def end(self, title: str) -> None:
        """The part with that title has ended, well or not."""


class Silent:
    """Reports nothing."""

    def update(self, title: str, done: float, total: float, unit: str = "", now: str = "") -> None:
        pass

    def end(self, title: str) -> None:
        pass


class Follower(Protocol):
    """Reads the output of a long command while it runs."""

    def line(self, text: str) -> None: ...

    def failure(self) -> Sequence[str]:
        """The lines to show if the command failed."""

    def hint(self) -> str:
        """What the user can do about the failure. Empty if that is not known."""


@dataclass(frozen=True)
class Gauge:
    """How many bytes of `total` the files have on the disk so far."""

    title: str
    files: tuple[Path, ...]
    total: int

    def done(self) -> int:
        size = 0
        for file in self.files:
            with suppress(OSError):
                size += file.stat().st_blocks * 512
        return size


@contextmanager
def watch(gauge: Gauge | None, progress: Progress) -> Iterator[None]:
    """Reads the gauge five times a second while the block runs."""
    if gauge is None or isinstance(progress, Silent):
        yield
        return
    over = Event()

    def tell(gauge: Gauge) -> None:
        while not over.wait(0.2):
            progress.update(gauge.title, min(gauge.done(), gauge.total), gauge.total, "B")

    teller = Thread(target=tell, args=(gauge,), daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
        progress.end(gauge.title)
