from __future__ import annotations

import os
from pathlib import Path

import pytest

from virshle.exec import table
from virshle.exec.table import Listed, argv_of, has_open, open_still, parent_of, processes, unit_of


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


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/virshle.slice/virshle-vm-web.service\n", "virshle-vm-web"),
        ("9:name=systemd:/system.slice/cron.service\n4:memory:/x\n0::/\n", "cron"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", None),
        ("", None),
    ],
)
def test_the_unit_of_a_process_is_known(text: str, unit: str | None, proc: Path) -> None:
    (_process(proc, 7, b"x\0") / "cgroup").write_text(text)
    assert unit_of(7) == unit


def test_of_one_that_ended_nothing_is_known(proc: Path) -> None:
    assert (unit_of(7), argv_of(7), open_still(7, proc)) == (None, (), None)


def test_a_file_that_was_removed_is_found_where_it_is_open_still(tmp_path: Path) -> None:
    file = tmp_path / "a disk"
    file.write_text("all of it")
    with file.open() as opened:
        assert open_still(os.getpid(), file) is None
        file.unlink()
        found = open_still(os.getpid(), file)
        assert found == Path(f"/proc/{os.getpid()}/fd/{opened.fileno()}")
        assert found.read_text() == "all of it"
    assert open_still(os.getpid(), file) is None
