from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from tests.unit.support import Held, open_descriptors, record_of
from virshle.errors import HostError
from virshle.exec import process
from virshle.exec.process import (
    Process,
    Recorded,
    cut_power,
    gone_shell,
    held_record,
    kill_launched,
    launch,
    recorded,
    running,
)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "vmm.pid"


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


@pytest.mark.parametrize("pid", [4194999, 1, os.getppid()], ids=["no such process", "init", "another"])
def test_another_process_is_never_taken_for_it(pid: int, record: Path) -> None:
    """The process may write what it likes into its record; only who has that open is believed."""
    with Held(record, record_of(pid)):
        assert running(record) == Process(None)


def test_who_has_another_file_open_there_is_not_taken_for_it(record: Path, tmp_path: Path) -> None:
    with Held(record), Held(tmp_path / "another"):
        assert running(record) == Process(None)
        assert running(tmp_path / "another") == Process(os.getpid())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"12",
        b"12 34",
        b"12 boot",
        b"x boot token",
        b"12 boot token more",
        b"12.0 boot token",
        b"\xff b t",
        b"-1 boot token",
        b"12 boot tok\xe9n",
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


@pytest.mark.parametrize("why", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_who_cannot_look_does_not_say_that_nothing_runs(
    why: int, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He would start it a second time, or delete it."""

    def refuse(*_: object) -> int:
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(HostError, match="cannot find out if a VM runs") as caught:
        running(record)
    assert str(record) in caught.value.message


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


def test_what_was_launched_last_is_told_whether_it_lives_or_not(record: Path) -> None:
    assert recorded(record) is None
    with Held(record, record_of(7, "t0k3n")):
        assert recorded(record) == Recorded("t0k3n", this_boot=True)
    assert recorded(record) == Recorded("t0k3n", this_boot=True)
    record.write_text(record_of(7, "t0k3n", boot="00000000-0000-0000-0000-000000000000"))
    assert recorded(record) == Recorded("t0k3n", this_boot=False)


@pytest.mark.parametrize("text", [b"", b"7", b"7 boot", b"\xff b t", b"x" * 300])
def test_a_torn_record_tells_nothing(text: bytes, record: Path) -> None:
    record.write_bytes(text)
    assert recorded(record) is None


def test_a_record_that_is_no_file_of_its_own_tells_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "target").write_text(record_of(7))
    (tmp_path / "link").symlink_to("target")
    before = open_descriptors()
    for name in ("missing", "fifo", "link"):
        assert recorded(tmp_path / name) is None
    assert open_descriptors() == before


def test_a_launch_is_a_session_of_its_own_that_holds_no_lock_of_ours() -> None:
    command = launch(Path("/s/a b/vmm.sh"), ("setpriv", "--reuid=x", "--"))
    assert command.argv == ("sh", "-c", process._LAUNCHER, "sh", "setpriv", "--reuid=x", "--", "sh", "/s/a b/vmm.sh")
    assert command.detached
    assert 'setsid "$@" run' in command.argv[2]
    assert launch(Path("/s/vmm.sh")).argv[3:] == ("sh", "sh", "/s/vmm.sh")


def test_a_launch_ends_when_its_program_holds_the_record() -> None:
    assert process._LAUNCHER.rpartition(" & ")[2] == 'exec "$@" began $!'


def test_a_launch_is_undone_by_its_token_which_may_be_anothers() -> None:
    command = kill_launched(Path("/s/a b"), "t")
    assert command.argv[3:] == ("sh", "/s/a b", "t")
    assert command.argv[2].index('[ "$token" = "$2" ]') < command.argv[2].index("kill -KILL")
    assert command.ok == (0, 1)


def test_who_is_to_end_may_write_out_what_it_holds_first() -> None:
    command = cut_power(42, Path("/s/a b"))
    assert command.argv[3:] == ("sh", "42", "/s/a b")
    script = command.argv[2]
    assert script.index("kill -TERM") < script.index("--timeout 5") < script.index("kill -KILL")
    assert script.endswith('flock --shared --timeout 10 "$2" true')  # it is gone when the command has ended well
    assert command.timeout > 15


def test_a_shell_can_tell_whether_it_is_gone() -> None:
    assert gone_shell(Path("/a b/vmm.pid")) == "flock --shared --nonblock '/a b/vmm.pid' true"


def test_the_record_that_a_process_holds_is_found_under_its_new_name(record: Path, tmp_path: Path) -> None:
    with Held(record):
        folder = tmp_path / "folder"
        folder.mkdir()
        record.rename(folder / "vmm.pid")
        folder.rename(tmp_path / "renamed")
        found = held_record(os.getpid())
        assert found is not None
        assert found[0] == tmp_path / "renamed/vmm.pid"
        assert os.path.samestat(found[1], found[0].stat())
        found[0].unlink()
        gone = held_record(os.getpid())
        assert gone is not None
        assert (gone[0].exists(), gone[1].st_nlink) == (False, 0)
    assert held_record(4194999) is None
