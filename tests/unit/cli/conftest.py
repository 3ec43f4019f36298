"""`v` as it is run: its exit code, its stdout and its stderr."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from virshle.cli.main import run as run_cli


class Ran(NamedTuple):
    code: int
    out: str
    err: str


V = Callable[..., Ran]


@pytest.fixture
def v(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[V]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    umask = os.umask(0o022)

    def run(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["v", *words])
        # Where it is `python -m pytest`, click would take that for our name.
        monkeypatch.setattr(sys.modules["__main__"], "__package__", None)
        capsys.readouterr()
        return Ran(run_cli(), *capsys.readouterr())

    yield run
    os.umask(umask)
    for number, handler in handlers.items():
        signal.signal(number, handler)
