from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.unit.support import FakeProgress
from virshle.plan import Gauge, Silent
from virshle.plan.progress import watch


def test_a_gauge_counts_what_is_on_disk_and_not_holes(tmp_path: Path) -> None:
    full, sparse = tmp_path / "full", tmp_path / "sparse"
    full.write_bytes(b"x" * 2**16)
    with sparse.open("wb") as file:
        file.truncate(2**30)
    gauge = Gauge("copy", (full, sparse, tmp_path / "missing"), 2**20)
    assert 2**16 <= gauge.done() < 2**17


def _until(condition: object) -> None:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.01)


def test_a_watched_block_is_told_of_and_ended(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 2**16)
    progress = FakeProgress()
    with watch(Gauge("copy", (tmp_path / "f",), 4096), progress):
        _until(lambda: progress.told)
        assert progress.ended == []
    assert progress.told[0] == ("copy", 4096, 4096, "B", "")  # never more than there is
    assert progress.ended == ["copy"]


def test_the_watch_ends_with_the_block_also_when_it_fails(tmp_path: Path) -> None:
    progress = FakeProgress()
    before = threading.active_count()
    with pytest.raises(KeyError), watch(Gauge("copy", (), 1), progress):
        raise KeyError
    assert progress.ended == ["copy"]
    assert threading.active_count() == before


@pytest.mark.parametrize(("gauge", "progress"), [(None, FakeProgress()), (Gauge("copy", (), 1), Silent())])
def test_nothing_is_watched_where_nobody_looks(gauge: Gauge | None, progress: FakeProgress | Silent) -> None:
    before = threading.active_count()
    with watch(gauge, progress):
        assert threading.active_count() == before
