"""vmm.sh as it is run: by the real sh and flock, with a VMM that only sleeps."""

from __future__ import annotations

import fcntl
import os
import pwd
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from tests.host.script import LONG, Script, made, wait_until
from virshle.errors import HostError
from virshle.exec import run
from virshle.exec.process import Process, cut_power, gone_shell, kill_launched, launch, recorded, running
from virshle.vmm.account import as_user

OTHER = "daemon"
"""A user and a group of that name are on every machine."""
ODD = [
    "a b",
    "it's",
    'a"b',
    "$(touch x)",
    "`touch x`",
    "a;b",
    "a\\b",
    "a%sb",
    "a&b|c",
    "a*b?",
    "é",
    "a\nb",
    "-rf",
    "#a",
]


def _gone(vm: Script) -> Callable[[], bool]:
    return lambda: running(vm.place.record) is None


def test_it_becomes_its_vmm_which_holds_the_record(vm: Script) -> None:
    pid = vm.begin()
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00600\x00"
    assert os.getsid(pid) == pid
    told = recorded(vm.place.record)
    assert told is not None
    assert (told.token, told.this_boot) == ("t0k3n", True)
    assert subprocess.run(["sh", "-c", gone_shell(vm.place.record)], check=False).returncode == 1
    os.kill(pid, signal.SIGKILL)
    wait_until(_gone(vm))
    assert subprocess.run(["sh", "-c", gone_shell(vm.place.record)], check=False).returncode == 0
    assert recorded(vm.place.record) == told  # its record stays


def test_what_it_prints_is_kept_and_not_cut(vm: Script) -> None:
    vm.place.console_log.write_text("before\n")
    vm.write("sh", "-c", "echo out; echo err >&2; cat; exec sleep 600")
    pid = vm.begin()
    wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    assert vm.place.console_log.read_text() == "before\nout\n"
    assert vm.place.vmm_log.read_text().endswith("err\n")


@pytest.mark.parametrize("name", ["console.log", "vmm.log"])
def test_of_a_log_without_end_the_end_is_kept(name: str, vm: Script) -> None:
    log = vm.place.logs / name
    end = b"the last line\n"
    with log.open("wb") as file:
        file.truncate(vm.place.longest_log)
        file.seek(0, os.SEEK_END)
        file.write(end)
    before = log.stat()
    vm.write("sh", "-c", "echo said; echo told >&2; exec sleep 600")
    vm.begin()
    wait_until(lambda: log.read_bytes().endswith((b"said\n", b"told\n")))
    text = log.read_bytes()
    assert len(text) < vm.place.log_kept + 1000
    assert end in text
    # Who follows it has it open.
    assert log.stat().st_ino == before.st_ino


def test_a_log_that_is_not_too_long_is_left(vm: Script) -> None:
    text = bytes(vm.place.log_kept) + b"x" * vm.place.log_kept
    vm.place.console_log.write_bytes(text)
    vm.write("sleep", "600")
    vm.begin()
    assert vm.place.console_log.read_bytes() == text


def test_of_two_the_second_fails_and_touches_nothing(vm: Script) -> None:
    pid = vm.begin()
    record = vm.place.record.read_text()
    socket = vm.place.run / "s.sock"
    socket.touch()
    vm.write(token="another")
    ran = vm.call("run")
    assert ran.returncode == 75
    assert f"it runs already: {vm.place.record} is locked" in ran.stderr
    with pytest.raises(HostError, match="failed with exit code 70"):
        run(launch(vm.place.script))
    assert (vm.place.record.read_text(), vm.pid) == (record, pid)
    assert socket.exists()


def test_what_an_earlier_run_left_is_removed_first(vm: Script) -> None:
    for path in (vm.place.run / "s.sock", vm.place.ready):
        path.write_text("READY=1\n")
    vm.begin()
    assert not (vm.place.run / "s.sock").exists()
    assert not vm.place.ready.exists()


def test_who_only_looks_is_in_nobodys_way(vm: Script) -> None:
    handle = os.open(vm.place.record, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    begun = subprocess.Popen([*launch(vm.place.script).argv])
    os.close(handle)
    assert begun.wait(LONG) == 0
    assert vm.became() > 0


def test_a_record_that_is_not_there_is_made(vm: Script) -> None:
    vm.place.record.unlink()
    vm.begin()


def test_began_says_so_only_of_this_run(vm: Script) -> None:
    """In the record is a run of before."""
    vm.begin()
    run(cut_power(vm.pid, vm.place.record))
    vm.write("sleep", "600", token="another")
    slow = subprocess.Popen(["sleep", "600"])
    began = subprocess.Popen([vm.place.script, "began", str(slow.pid)], stderr=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        began.wait(0.5)
    slow.kill()
    slow.wait()
    _, said = began.communicate(timeout=LONG)
    assert (began.returncode, said) == (70, "it ended before its VMM began\n")


def test_systemd_names_who_runs_it_in_the_environment(vm: Script) -> None:
    vm.begin()
    for pid, code in ((str(vm.pid), 0), ("none", 0)):
        ran = subprocess.run([vm.place.script, "began"], env={**os.environ, "MAINPID": pid}, timeout=LONG, check=False)
        assert ran.returncode == code
    vm.write(token="another")
    ran = subprocess.run(
        [vm.place.script, "began"], env={**os.environ, "MAINPID": "none"}, timeout=LONG, stderr=subprocess.DEVNULL
    )
    assert ran.returncode == 70


def test_a_vmm_that_cannot_be_run_is_gone_and_says_why(vm: Script) -> None:
    vm.write("/nowhere/vmm")
    with suppress(HostError):  # it may be gone before anybody saw that it began
        run(launch(vm.place.script))
    wait_until(_gone(vm))
    assert "/nowhere/vmm" in vm.place.vmm_log.read_text()


@pytest.mark.parametrize("words", [(), ("help",), ("Run",)])
def test_what_it_does_not_know_it_does_not_do(words: tuple[str, ...], vm: Script) -> None:
    ran = vm.call(*words)
    assert ran.returncode == 64
    assert "usage: " in ran.stderr
    assert running(vm.place.record) is None


def test_a_process_beside_it_does_not_hold_the_record(vm: Script) -> None:
    pid_file = vm.place.run / "beside.pid"
    vm.write(helpers=(f"sleep 600 >/dev/null 2>&1 & echo $! >'{pid_file}'",))
    vm.begin()
    beside = int(pid_file.read_text())
    try:
        run(cut_power(vm.pid, vm.place.record))
        assert running(vm.place.record) is None
        os.kill(beside, 0)  # it lives
    finally:
        os.kill(beside, signal.SIGKILL)


def test_where_one_beside_it_does_not_start_it_does_not_either(vm: Script) -> None:
    vm.write(helpers=("sh -c 'echo in use >&2; exit 1'",))
    ran = vm.call("run")
    assert ran.returncode == 70
    assert "in use" in ran.stderr
    assert "web: its network's process did not start" in ran.stderr
    assert running(vm.place.record) is None


def test_a_launch_is_undone_by_its_own_token_alone(vm: Script) -> None:
    vm.begin()
    assert run(kill_launched(vm.place.record, "another")).code == 1
    assert running(vm.place.record) is not None
    run(kill_launched(vm.place.record, vm.token))
    wait_until(_gone(vm))


def test_nor_does_its_undo_believe_a_pid_of_a_process_without_the_record(vm: Script) -> None:
    """Root ends it, and the VMM's user may write what it likes into the record."""
    vm.begin()
    with subprocess.Popen(["sleep", "600"]) as other:
        vm.place.record.write_text(f"{other.pid} boot {vm.token}\n")
        assert run(kill_launched(vm.place.record, vm.token)).code == 1
        assert other.poll() is None
        other.kill()
    assert running(vm.place.record) is not None


@pytest.mark.parametrize("deaf", [False, True])
def test_when_the_power_is_cut_it_is_gone(deaf: bool, vm: Script) -> None:
    listens = vm.place.run / "listens"
    trap = f"trap {'true' if deaf else 'exit'} TERM; : >'{listens}'"
    vm.write("sh", "-c", f"{trap}; while true; do sleep 0.1; done")
    pid = vm.begin()
    wait_until(listens.exists)
    run(cut_power(pid, vm.place.record))
    assert running(vm.place.record) is None


@pytest.mark.parametrize("odd", ODD)
def test_odd_paths_and_words_stay_what_they_are(odd: str, folder: Path) -> None:
    vm = made(folder / odd)
    told = vm.place.run / "told"
    vm.write("sh", "-c", 'printf "%s" "$1" >"$2"; exec sleep 600', "sh", odd, str(told), button="true")
    subprocess.run(["sh", "-n", vm.place.script], check=True, timeout=LONG)
    pid = vm.begin()
    try:
        wait_until(lambda: told.exists() and told.read_text() == odd)
        assert not list(folder.rglob("x"))  # which some of them would make
        assert sorted(path.name for path in folder.iterdir()) == [odd]
    finally:
        run(cut_power(pid, vm.place.record))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; run as one, every test is this one")
def test_as_another_user_it_has_no_privilege_left(vm: Script) -> None:
    account = pwd.getpwnam(OTHER)
    for path in (vm.place.record, vm.place.logs, vm.place.run):
        os.chown(path, account.pw_uid, account.pw_gid)
    run(launch(vm.place.script, as_user(OTHER)))
    assert running(vm.place.record) == Process(vm.became())
    lines = [line.split(":\t") for line in Path(f"/proc/{vm.pid}/status").read_text().splitlines() if ":\t" in line]
    status = dict(lines)
    assert status["Uid"].split() == [str(account.pw_uid)] * 4
    assert status["Gid"].split() == [str(account.pw_gid)] * 4
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert vm.place.console_log.stat().st_uid == account.pw_uid
    run(cut_power(vm.pid, vm.place.record))
    assert running(vm.place.record) is None


@pytest.mark.heart
def test_each_launch_has_a_session_of_its_own_and_none_of_our_files(vm: Script) -> None:
    """What virshle holds open, its locks too, is not held by a VMM."""
    handle = os.open(vm.place.folder, os.O_RDONLY)
    os.set_inheritable(handle, True)
    try:
        pid = vm.begin()
    finally:
        os.close(handle)
    files = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
    place = vm.place
    # Of its own it has the runtime folder, by which that is found wherever it is moved to.
    assert files == {"/dev/null", *map(str, (place.console_log, place.vmm_log, place.record, place.run))}


def test_no_two_tokens_are_taken_for_one_another(vm: Script) -> None:
    """One may end as another begins."""
    vm.write(token=uuid4().hex)
    vm.begin()
    assert run(kill_launched(vm.place.record, vm.token[1:])).code == 1
    ran = subprocess.run(
        [vm.place.script, "began", str(os.getpid())], timeout=LONG, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0
