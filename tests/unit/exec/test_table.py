from __future__ import annotations

import os
from pathlib import Path

import pytest

from virshle.exec import table
from virshle.exec.table import Listed, has_open, parent_of, processes


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(table, "_PROC", tmp_path)
    return tmp_path


def _process(proc: Path, pid: int, cmdline: bytes, stat: str = "") -> Path:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "cmdline").write_bytes(cmdline)
    (folder / "stat").write_text(stat)
    return folder


def test_processes_have_their_arguments(proc: Path) -> None:
    _process(proc, 7, b"qemu\0-name\0\0a b\n\xff\0")
    assert list(processes()) == [Listed(7, ("qemu", "-name", "", "a b\n\udcff"))]


def test_what_is_no_process_is_left_out(proc: Path) -> None:
    _process(proc, 2, b"")  # the kernel's, or a zombie
    (proc / "3").mkdir()  # ended while it is looked at
    (proc / "sys").mkdir()
    (proc / "uptime").write_text("1")
    assert list(processes()) == []


def test_this_process_is_one() -> None:
    assert os.getpid() in {process.pid for process in processes()}
    assert parent_of(os.getpid()) == os.getppid()


@pytest.mark.parametrize("name", ["sh", "a b", ") S 9 ("])
def test_the_parent_is_found_whatever_its_name(name: str, proc: Path) -> None:
    _process(proc, 7, b"x\0", f"7 ({name}) S 4 7 7 0\n")
    assert parent_of(7) == 4


def test_one_that_ended_has_no_parent_and_nothing_open(proc: Path) -> None:
    assert parent_of(7) is None
    assert not has_open(7, proc)


def test_a_folder_is_known_to_be_open(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert has_open(os.getpid(), tmp_path)
        assert not has_open(os.getpid(), tmp_path.parent)
        assert not has_open(os.getpid(), tmp_path / "gone")
    finally:
        os.close(descriptor)
    assert not has_open(os.getpid(), tmp_path)
