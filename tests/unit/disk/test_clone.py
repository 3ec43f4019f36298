from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.fakehost import FakeHost
from virshle.disk import blank, clone, file_system, need_space
from virshle.errors import HostError
from virshle.exec import Command
from virshle.plan import Gauge, Run

MIB = 2**20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "image.raw"
    path.write_bytes(b"x" * MIB)
    return path


def test_a_clone_keeps_holes_shares_blocks_and_is_no_more_readable(source: Path, tmp_path: Path) -> None:
    (copy,) = clone(source, tmp_path / "os", image=MIB, size=MIB)
    assert copy.shell() == (
        f"cp --reflink=auto --sparse=always --no-preserve=mode,ownership -- {source} {tmp_path / 'os'}"
    )


def test_a_clone_is_grown_where_it_shall_be_larger(source: Path, tmp_path: Path) -> None:
    _, grow = clone(source, tmp_path / "os", image=MIB, size=2 * MIB)
    assert grow.shell() == f"truncate -s {2 * MIB} -- {tmp_path / 'os'}"


def test_a_clone_may_take_hours(source: Path, tmp_path: Path) -> None:
    copy = clone(source, tmp_path / "os", image=MIB, size=MIB)[0]
    assert isinstance(copy, Run)
    assert copy.command.timeout >= 3600


def test_only_a_long_copy_is_watched_by_what_it_has_of_data(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "os"

    def gauge(path: Path) -> Gauge | None:
        step = clone(path, target, image=MIB, size=MIB)[0]
        assert isinstance(step, Run)
        return step.gauge

    assert gauge(source) is None
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(2**40)
    assert gauge(sparse) is None
    with source.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, 2**26)
    found = gauge(source)
    assert found is not None
    assert found.files == (target,)
    assert 2**26 <= found.total <= 2**26 + MIB


def test_an_empty_disk_is_a_hole(tmp_path: Path) -> None:
    assert [step.shell() for step in blank(tmp_path / "data", 3 * MIB)] == [
        f"truncate -s {3 * MIB} -- {tmp_path / 'data'}"
    ]


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], None]:
    """Sets how much is free, and the kind of file system."""

    def set_to(free: int, kind: str) -> None:
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free // 4096, f_frsize=4096))

        def run(command: Command) -> object:
            assert command.argv[:3] == ("stat", "--file-system", "--format=%T")
            return SimpleNamespace(stdout=f"{kind}\n")

        monkeypatch.setattr(importlib.import_module("virshle.disk.clone"), "run_now", run)

    return set_to


Space = Callable[[int, str], None]


@pytest.mark.parametrize(
    ("copies", "free", "enough"), [(1, 17, True), (1, 16, False), (3, 19, True), (3, 18, False), (0, 16, True)]
)
def test_all_copies_must_fit_beside_each_other(
    copies: int, free: int, enough: bool, source: Path, tmp_path: Path, space: Space
) -> None:
    space(free * MIB + 64 * 1024, "ext2/ext3")  # 16 MiB are to be left
    if enough:
        need_space(tmp_path, [source], copies)
        return
    with pytest.raises(HostError, match="not enough space in"):
        need_space(tmp_path, [source], copies)


@pytest.mark.parametrize("kind", ["xfs", "btrfs", "bcachefs"])
def test_where_blocks_are_shared_copies_need_none(kind: str, source: Path, tmp_path: Path, space: Space) -> None:
    space(17 * MIB, kind)
    need_space(tmp_path, [source], 1000)


def test_holes_need_none(tmp_path: Path, space: Space) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    space(17 * MIB, "ext2/ext3")
    need_space(tmp_path, [tmp_path / "sparse"], 1000)


def test_the_folder_need_not_be_there_yet(source: Path, tmp_path: Path, space: Space) -> None:
    space(17 * MIB + 64 * 1024, "ext2/ext3")
    need_space(tmp_path / "not" / "yet", [source], 1)


@pytest.mark.parametrize(("mounted", "kind"), [("ext4", "ext4"), ("ext3", "ext3"), ("", "ext2/ext3")])
def test_ext4_is_called_by_its_name(mounted: str, kind: str, tmp_path: Path, host: FakeHost) -> None:
    host.answers["stat"] = "ext2/ext3\n"
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}" if mounted else "0:0"
    table = tmp_path / "mountinfo"
    table.write_text(f"36 35 0:5 / /proc rw - proc proc rw\n37 35 {number} / / rw shared:1 - {mounted} /dev/vda rw\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("virshle.disk.clone"), "MOUNTS", table)
        assert file_system(tmp_path) == kind
