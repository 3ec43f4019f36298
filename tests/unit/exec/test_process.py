from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from tests.unit.support import Held, open_descriptors, record_of
from virshle.exec import process
from virshle.exec.process import Process, gone_shell, kill, kill_launched, launch, running


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "vmm.pid"


def _fields() -> list[str]:
    return record_of(os.getpid()).split()


def test_the_recorded_process_runs_as_long_as_it_holds_the_record(record: Path) -> None:
    with Held(record):
        assert running(record) == Process(os.getpid())
    assert running(record) is None


def test_a_record_that_nobody_holds_is_of_nobody(record: Path) -> None:
    record.write_text(record_of(os.getpid()))  # though a process of that pid lives
    assert running(record) is None


def test_what_keeps_the_lock_runs_also_where_a_child_has_it(record: Path) -> None:
    held = Held(record)
    inherited = os.dup(held.fd)
    held.end()
    assert running(record) is not None
    os.close(inherited)
    assert running(record) is None


@pytest.mark.parametrize(
    "change",
    [{0: "4194999"}, {1: "1"}, {2: "00000000-0000-0000-0000-000000000000"}],
    ids=["no such process", "the pid was used again", "another boot"],
)
def test_another_process_is_never_taken_for_it(change: dict[int, str], record: Path) -> None:
    text = " ".join(change.get(index, field) for index, field in enumerate(_fields()))
    with Held(record, text):
        assert running(record) == Process(None)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"12",
        b"12 34",
        b"12 34 boot",
        b"x 34 boot token",
        b"12 y boot token",
        b"12 34 boot token more",
        b"12.0 34 boot token",
        b"\xff 1 b t",
        b"12 34 b\x00 c",
        b"-1 34 boot token",
        b"9" * 300,
    ],
)
def test_a_torn_record_runs_and_does_not_say_as_which_process(text: bytes, record: Path) -> None:
    with Held(record):
        record.write_bytes(text)
        assert running(record) == Process(None)
    assert running(record) is None


def test_a_missing_or_odd_record_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with Held(tmp_path / "target"):
        (tmp_path / "link").symlink_to("target")
        for name in ("missing", "fifo", "link", "missing/below", "."):
            assert running(tmp_path / name) is None


def test_looking_takes_nothing_and_keeps_nothing_open(record: Path) -> None:
    record.write_text("")
    before = open_descriptors()
    assert running(record) is None
    with Held(record):  # it can be held at once
        assert running(record) is not None
    assert open_descriptors() == before


def test_two_that_look_at_once_do_not_take_each_other_for_the_process(record: Path) -> None:
    record.write_text("")
    handle = os.open(record, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    assert running(record) is None
    os.close(handle)


@pytest.mark.parametrize(
    ("stat", "pid"),
    [
        ("7 (qemu) S 1 " + "0 " * 17 + "4242 0 0", 7),
        ("7 (a) Z 0 (b) c)) R 1 " + "0 " * 17 + "4242 0 0", 7),
        ("7 (qemu) S 1 " + "0 " * 17 + "4243 0 0", None),
        ("7 (qemu) S 1", None),
        ("", None),
    ],
    ids=["sleeps", "odd name", "started later", "short", "nothing"],
)
def test_the_kernels_word_is_read_right(
    stat: str, pid: int | None, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.read_text

    def read_text(self: Path, *args: object, **more: object) -> str:
        return stat if str(self) == "/proc/7/stat" else real(self, "utf-8")

    with Held(record, f"7 4242 {_fields()[2]} token\n"):
        monkeypatch.setattr(Path, "read_text", read_text)
        assert running(record) == Process(pid)


def test_a_process_that_ends_while_it_is_looked_at_has_no_pid(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(self: Path, *_: object, **__: object) -> str:
        raise ProcessLookupError(3, "No such process")

    with Held(record):
        monkeypatch.setattr(Path, "read_text", ended)
        assert running(record) == Process(None)


def test_a_launch_is_a_session_of_its_own_that_holds_the_record() -> None:
    command = launch(
        ("qemu", "-name", "a b"), record=Path("/s/vmm.pid"), token="t", sockets=Path("/r"), log=Path("/log/vmm.log")
    )
    script = command.argv[2]
    assert command.argv[:2] == ("sh", "-c")
    assert command.argv[3:] == ("sh", "/s/vmm.pid", "t", "/r", "/log/vmm.log", "qemu", "-name", "a b")
    assert command.detached  # it holds no lock of ours
    assert 'setsid "$@"' in script
    assert "9>&-" not in script  # the program inherits the lock


def test_the_lock_is_taken_before_anything_is_touched_and_the_record_is_written_last() -> None:
    script = process._LAUNCHER
    locked, cleaned, begun = (script.index(part) for part in ("flock", "rm -f", "setsid"))
    assert script.index('9>>"$record"') < locked < cleaned < begun
    assert script.rindex('>"$record"') > begun


def test_a_launch_is_undone_by_its_token_which_may_be_anothers() -> None:
    command = kill_launched(Path("/s/a b"), "t")
    assert command.argv[3:] == ("sh", "/s/a b", "t")
    assert command.argv[2].index('[ "$token" = "$2" ]') < command.argv[2].index("kill -KILL")
    assert command.ok == (0, 1)


def test_one_that_ended_in_the_meantime_is_killed_well() -> None:
    command = kill(42)
    assert (command.argv[-1], command.ok) == ("42", (0, 1))
    assert "kill -KILL" in command.argv[2]


def test_a_shell_can_tell_whether_it_is_gone() -> None:
    assert gone_shell(Path("/a b/vmm.pid")) == "flock --shared --nonblock '/a b/vmm.pid' true"
