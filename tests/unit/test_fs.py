from __future__ import annotations

import errno
import fcntl
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from types import SimpleNamespace

import pytest

from tests.unit.support import open_descriptors
from virshle import fs
from virshle.errors import ConfigError, ConflictError, HostError, VirshleError
from virshle.fs import (
    Lock,
    allow_locks,
    expand,
    explained,
    held,
    read_end,
    read_given,
    read_start,
    try_lock,
    write_atomic,
)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_a_written_file_has_its_text_and_mode_whatever_the_umask_is(mode: int, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "f", "é\n", mode)
    finally:
        os.umask(before)
    assert (tmp_path / "f").read_text(encoding="utf-8") == "é\n"
    assert _mode(tmp_path / "f") == mode
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".f")] == []


def test_a_written_file_is_private_unless_told_otherwise(tmp_path: Path) -> None:
    write_atomic(tmp_path / "f", "")
    assert _mode(tmp_path / "f") == 0o600


@pytest.mark.parametrize("call", ["os.fsync", "os.fchmod"])
def test_where_writing_fails_the_old_text_is_intact_and_nothing_is_left(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "f").write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(call, full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(folder / "f", "new")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"f": "old"}


def test_where_the_name_is_a_folder_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "a" / "f").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_atomic(tmp_path / "a" / "f", "text")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["f"]


def test_a_symlink_is_replaced_and_its_target_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "f").symlink_to("target")
    write_atomic(tmp_path / "f", "new")
    assert (tmp_path / "target").read_text() == "old"
    assert not (tmp_path / "f").is_symlink()


def test_a_lock_excludes_another(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    with Lock(folder):
        assert try_lock(folder) is None
        with pytest.raises(ConflictError, match="is locked") as caught:
            Lock(folder, patience=0)
        assert f"`fuser -v '{folder}'`" in caught.value.hint
    free = try_lock(folder)
    assert free is not None
    free.release()


def test_shared_locks_go_together_and_exclude_an_exclusive_one(tmp_path: Path) -> None:
    with Lock(tmp_path, shared=True), Lock(tmp_path, shared=True, patience=0):
        assert try_lock(tmp_path) is None


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    held = Lock(tmp_path)
    timer = Timer(0.1, held.release)
    timer.start()
    with Lock(tmp_path, patience=30):
        pass
    timer.join()


def test_a_lock_is_a_true_flock_that_a_child_keeps(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    inherited = os.dup(lock.fd)  # what a command is handed
    lock.release()
    assert try_lock(tmp_path) is None
    os.close(inherited)
    assert try_lock(tmp_path) is not None


def test_a_lock_is_not_handed_to_commands_unasked(tmp_path: Path) -> None:
    with Lock(tmp_path) as lock:
        assert fcntl.fcntl(lock.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_a_refused_lock_leaves_no_descriptor_open(tmp_path: Path) -> None:
    with Lock(tmp_path):
        before = open_descriptors()
        for _ in range(5):
            assert try_lock(tmp_path) is None
        assert open_descriptors() == before


def test_a_released_lock_may_be_released_again(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    lock.release()
    other = os.open(tmp_path, os.O_RDONLY)  # has the descriptor's number now
    lock.release()
    os.close(other)  # would fail, had it been closed
    assert lock.fd == -1


def test_a_lock_knows_whether_its_folder_is_still_there(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    with Lock(folder) as lock:
        assert lock.still(folder)
        folder.rename(tmp_path / "b")
        assert not lock.still(folder)
        assert lock.still(tmp_path / "b")
        folder.mkdir()
        assert not lock.still(folder)


def test_no_lock_on_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link", "missing"):
        assert try_lock(tmp_path / name) is None
    with pytest.raises(FileNotFoundError):
        Lock(tmp_path / "missing")


def _be(monkeypatch: pytest.MonkeyPatch, uid: int, sudo_user: str | None) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    if sudo_user is not None:
        monkeypatch.setenv("SUDO_USER", sudo_user)

    def getpwnam(name: str) -> object:
        if name != "ada":
            raise KeyError(name)
        return SimpleNamespace(pw_dir="/home/ada")

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)


@pytest.mark.parametrize(
    ("uid", "sudo_user", "whose"),
    [(0, "ada", "ada"), (0, None, ""), (0, "gone", ""), (1000, "ada", "")],
)
def test_under_sudo_home_is_the_callers(
    uid: int, sudo_user: str | None, whose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _be(monkeypatch, uid, sudo_user)
    home = Path("/home/ada") if whose else tmp_path / "home"
    assert fs.caller_home() == home
    assert expand("~") == home
    assert expand("~/x/y") == home / "x/y"


def test_expanding_makes_absolute_and_resolves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("/")
    assert expand("link/x") == tmp_path / "link/x"
    assert expand("/a/b") == Path("/a/b")
    assert expand(Path("a")) == tmp_path / "a"


def test_in_a_folder_that_was_removed_only_full_paths_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert expand("/a/b") == Path("/a/b")
    assert expand("~/a") == tmp_path / "home/a"
    assert expand("a", tmp_path) == tmp_path / "a"
    with pytest.raises(VirshleError, match="the current folder was removed"):
        expand("a")


def test_who_has_no_name_on_this_system_is_told_before_nix_or_ssh_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    fs.check_known()

    def unknown(_: int) -> object:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ConfigError, match="no entry in /etc/passwd") as caught:
        fs.check_known()
    assert f"useradd --uid {os.getuid()}" in caught.value.hint


@pytest.mark.parametrize("what", ["file", "link"])
@pytest.mark.parametrize("below", ["", "state"])
def test_what_is_no_folder_is_told_with_what_chooses_another(what: str, below: str, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    if what == "file":
        odd.write_text("")
    else:
        odd.symlink_to("nowhere")
    with pytest.raises(ConfigError, match=f"{odd} is (not a folder|a link that does not lead to a folder)") as caught:
        fs.check_folder(odd / below, "VIRSHLE_STATE_DIR")
    assert "VIRSHLE_STATE_DIR" in caught.value.hint
    fs.check_folder(tmp_path / "not/there/yet", "VIRSHLE_STATE_DIR")


def test_a_home_of_nobody_is_an_error_to_act_on() -> None:
    with pytest.raises(VirshleError):
        expand("~no-such-user-at-all/disk.raw")


def test_two_slashes_after_the_tilde_are_one(tmp_path: Path) -> None:
    assert expand("~//x") == tmp_path / "home" / "x"


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.EACCES, "VIRSHLE_STATE_DIR"), (errno.EROFS, "VIRSHLE_STATE_DIR"), (errno.ENOSPC, "df -h")],
)
def test_an_os_error_is_explained(number: int, hint: str) -> None:
    with pytest.raises(HostError) as caught, explained("write the list"):
        raise OSError(number, os.strerror(number), "/some/file")
    assert caught.value.message == f"cannot write the list: /some/file {os.strerror(number)}"
    assert hint in caught.value.hint


def test_a_given_hint_is_kept_and_other_errors_pass() -> None:
    with pytest.raises(HostError) as caught, explained("write", hint="pray"):
        raise OSError(errno.ENOSPC, "full")
    assert caught.value.hint == "pray"
    with pytest.raises(KeyError), explained("write"):
        raise KeyError


def test_who_waits_is_told_once_and_only_after_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    told: list[tuple[Path, float]] = []
    with Lock(tmp_path):
        for patience in (0.9, 5.0):
            clock[0] = 0.0
            with pytest.raises(ConflictError):
                Lock(tmp_path, patience=patience, told=lambda folder: told.append((folder, clock[0])))
    assert [folder for folder, _ in told] == [tmp_path]
    assert 1 <= told[0][1] < 1.1


@pytest.mark.parametrize(("read", "found"), [(read_start, "abc"), (read_end, "xyz")])
def test_of_a_file_that_may_be_huge_only_a_part_is_read(
    read: Callable[[Path, int], str], found: str, tmp_path: Path
) -> None:
    file = tmp_path / "huge"
    file.write_bytes(b"abc" + b"." * 2**20 + b"xyz")
    assert read(file, 3) == found
    file.write_bytes(b"\xff!")
    assert read(file, 100) == "\ufffd!"


@pytest.mark.parametrize("read", [read_start, read_end])
def test_in_a_folder_of_anothers_nothing_is_followed_or_waited_for(read: Callable[[Path], str], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "link").symlink_to("secret")
    os.mkfifo(tmp_path / "fifo")
    before = open_descriptors()
    for name in ("link", "fifo", "missing", "."):
        with pytest.raises(OSError):
            read(tmp_path / name)
    assert open_descriptors() == before


def test_a_path_may_begin_in_another_folder(tmp_path: Path) -> None:
    assert expand("a/b", tmp_path / "x") == tmp_path / "x/a/b"
    assert expand("/a", tmp_path / "x") == Path("/a")
    assert expand("~/a", tmp_path / "x") == tmp_path / "home/a"


@pytest.mark.parametrize(("lasting", "syncs"), [(True, 2), (False, 0)])
def test_a_file_and_its_folder_are_on_the_disk_unless_a_later_step_sees_to_that(
    lasting: bool, syncs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    write_atomic(tmp_path / "f", "text", lasting=lasting)
    assert (tmp_path / "f").read_text() == "text"
    assert len(synced) == syncs


@pytest.mark.parametrize(
    ("limits", "count", "new"),
    [((1024, 4096), 10, None), ((1024, 4096), 1000, 1128), ((1024, 1100), 1000, 1100), ((1024, -1), 2000, 2128)],
)
def test_as_many_locks_as_are_wanted_may_be_held(
    limits: tuple[int, int], count: int, new: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: limits)
    monkeypatch.setattr("resource.setrlimit", lambda _, pair: given.append(pair))
    allow_locks(count)
    assert given == ([] if new is None else [(new, limits[1])])


def test_a_look_tells_whether_a_lock_is_held_and_leaves_it_free(tmp_path: Path) -> None:
    assert not held(tmp_path)
    with Lock(tmp_path):
        assert held(tmp_path)
    with Lock(tmp_path, shared=True):
        assert not held(tmp_path)
    assert not held(tmp_path)
    Lock(tmp_path, patience=0).release()
    assert not held(tmp_path / "gone")


def test_a_fifo_or_a_device_is_refused_at_once_and_the_empty_one_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, kind in ((tmp_path / "fifo", "a FIFO"), (Path("/dev/zero"), "a device"), (Path("/dev/ptmx"), "a device")):
        with pytest.raises(OSError, match=kind):
            read_given(path, patience=3600)
    assert read_given(Path("/dev/null")) == b""
