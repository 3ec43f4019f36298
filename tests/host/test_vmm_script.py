"""vmm.sh as it is run: by the real sh and flock, with a VMM that only sleeps."""

from __future__ import annotations

import fcntl
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from virshle.errors import HostError
from virshle.exec import run
from virshle.exec.process import Process, cut_power, gone_shell, kill_launched, launch, recorded, running
from virshle.model.vm import Vm
from virshle.vmm.account import as_user
from virshle.vmm.button import SPEAKERS
from virshle.vmm.driver import Launch, Machine, Place, Vmm
from virshle.vmm.launch import script

LONG = 60.0
"""Seconds: a generous bound for what takes none."""
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


def _wait(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


@dataclass
class Script:
    """One VM's folders, its script, and all that was started of it."""

    place: Place
    token: str = "t0k3n"
    left: list[subprocess.Popen[str]] = field(default_factory=list)

    def write(self, *argv: str, button: str = "", helpers: tuple[str, ...] = (), token: str = "t0k3n") -> None:
        place = self.place
        self.token = token
        vmm = Vmm(
            argv=argv or ("sleep", "600"),
            output=place.console_log,
            stale=(place.run / "s.sock",),
            power_button=button or f"echo pressed >>'{self.pressed}'; kill -TERM \"$(cut -d' ' -f1 \"$record\")\"",
            helpers=helpers,
        )
        place.script.write_text(script(Machine(_vm(), place, _launch(token)), vmm))
        place.script.chmod(0o755)

    @property
    def pressed(self) -> Path:
        """Has a line for each time that the power button was pressed."""
        return self.place.run / "pressed"

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.place.script, *words], capture_output=True, text=True, timeout=LONG, check=False)

    def begin(self) -> int:
        """As virshle launches it; the VMM's pid, once the script has become it."""
        run(launch(self.place.script))
        return self.became()

    def became(self) -> int:
        """A record is written just before that."""
        script = str(self.place.script).encode()
        _wait(lambda: script not in Path(f"/proc/{self.pid}/cmdline").read_bytes())
        return self.pid

    @property
    def pid(self) -> int:
        process = running(self.place.record)
        assert process is not None
        assert process.pid is not None
        return process.pid


def _vm() -> Vm:
    return Vm.model_validate(
        {
            "uuid": "0e0b4c4e-6a5b-4b5e-8d43-0f4c1a2b3c4d",
            "id": 1,
            "name": "web",
            "template": "t",
            "created": "2024-05-06T07:08:09Z",
            "vcpu": 1,
            "memory": 2**26,
            "boot": {"kind": "firmware", "variables": "boot/efivars.fd"},
            "disks": [{"name": "os", "file": "disk/os", "size": 1}],
            "origin": {"source": "x"},
        }
    )


def _launch(token: str) -> Launch:
    fixed: dict[str, Any] = dict.fromkeys(("program", "version", "accelerator", "why", "started"), "")
    return Launch(hypervisor="qemu", name="web", ssh_port=None, token=token, unit=None, user=None, **fixed)


@pytest.fixture
def folder() -> Iterator[Path]:
    """That another user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _script(folder: Path) -> Script:
    place = Place(folder / "s", folder / "r")
    for path in (place.logs, place.run):
        path.mkdir(parents=True)
    place.record.touch()
    return Script(place)


@pytest.fixture
def vm(folder: Path) -> Iterator[Script]:
    vm = _script(folder)
    vm.write()
    yield vm
    with suppress(AssertionError, ProcessLookupError):
        os.kill(vm.pid, signal.SIGKILL)


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
    _wait(_gone(vm))
    assert subprocess.run(["sh", "-c", gone_shell(vm.place.record)], check=False).returncode == 0
    assert recorded(vm.place.record) == told  # its record stays


def test_what_it_prints_is_kept_and_not_cut(vm: Script) -> None:
    vm.place.console_log.write_text("before\n")
    vm.write("sh", "-c", "echo out; echo err >&2; cat; exec sleep 600")
    pid = vm.begin()
    _wait(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
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
    _wait(lambda: log.read_bytes().endswith((b"said\n", b"told\n")))
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
    _wait(_gone(vm))
    assert "/nowhere/vmm" in vm.place.vmm_log.read_text()


@pytest.mark.heart
def test_stop_presses_the_button_and_waits_until_it_is_gone(vm: Script) -> None:
    vm.begin()
    ran = vm.call("stop")
    assert ran.returncode == 0
    assert running(vm.place.record) is None
    assert vm.pressed.read_text() == "pressed\n"
    assert "pressed the power button of web" in ran.stdout


def test_stop_of_one_that_is_gone_presses_nothing(vm: Script) -> None:
    assert vm.call("stop").returncode == 0
    vm.begin()
    run(cut_power(vm.pid, vm.place.record))
    assert vm.call("stop").returncode == 0
    assert not vm.pressed.exists()


@pytest.mark.heart
def test_a_guest_that_was_still_booting_is_asked_again(vm: Script) -> None:
    button = (
        f"echo pressed >>'{vm.pressed}'; [ $(wc -l <'{vm.pressed}') -lt 3 ] || kill \"$(cut -d' ' -f1 \"$record\")\""
    )
    vm.write(button=f"{{ {button}; }}")
    vm.place.script.write_text(vm.place.script.read_text().replace("--timeout 10", "--timeout 0.05"))
    vm.begin()
    assert vm.call("stop").returncode == 0
    assert vm.pressed.read_text() == "pressed\n" * 3


def _stopping(vm: Script, path: str = os.environ["PATH"]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [vm.place.script, "stop"], env={"PATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_while_the_button_cannot_be_pressed_it_waits(vm: Script) -> None:
    """To systemd its end is the guest's, whatever was the matter."""
    vm.write(button=f"{{ echo no socket >&2; echo tried >>'{vm.pressed}'; false; }}")
    vm.place.script.write_text(vm.place.script.read_text().replace("--timeout 10", "--timeout 0.05"))
    pid = vm.begin()
    stopping = _stopping(vm)
    _wait(lambda: vm.pressed.exists() and vm.pressed.read_text().count("tried") > 2)
    assert (stopping.poll(), running(vm.place.record)) == (None, Process(pid))
    os.kill(pid, signal.SIGKILL)
    said, error = stopping.communicate(timeout=LONG)
    assert stopping.returncode == 0
    assert "no socket" in error
    assert "pressed" not in said


def test_without_flock_it_waits_as_long(vm: Script, folder: Path) -> None:
    vm.write(button=f"echo pressed >>'{vm.pressed}'")
    vm.place.script.write_text(vm.place.script.read_text().replace("sleep 10", "sleep 0.05"))
    pid = vm.begin()
    stopping = _stopping(vm, _programs(folder, "dirname", "sleep"))
    _wait(lambda: vm.pressed.exists() and vm.pressed.read_text().count("pressed") > 2)
    assert (stopping.poll(), running(vm.place.record)) == (None, Process(pid))
    os.kill(pid, signal.SIGKILL)
    stopping.communicate(timeout=LONG)
    assert stopping.returncode == 0


def _programs(folder: Path, *names: str) -> str:
    """A PATH in which there is nothing else."""
    programs = folder / "programs"
    programs.mkdir()
    for name in names:
        # What is called python3 here may be a script that needs more programs.
        found = os.path.realpath(sys.executable) if name == "python3" else shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    return str(programs)


def _socket(path: Path, answer: bytes) -> tuple[list[bytes], threading.Thread]:
    """Listens there; what one client says is put into the list, once it is answered."""
    said: list[bytes] = []
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        with server, server.accept()[0] as client:
            heard = b""
            while block := client.recv(4096):
                heard += block
            client.sendall(answer)
            said.append(heard)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return said, thread


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_each_way_to_the_socket_says_the_same(speaker: str, vm: Script, folder: Path) -> None:
    """Of the programs by which it can be done only one is there."""
    text = 'PUT /x "y" $z\\r\\n'
    vm.write(button=f"send s.sock {shlex.quote(text)}; kill -KILL $pid")
    vm.begin()
    said, thread = _socket(vm.place.run / "s.sock", b"good\n")
    stopping = _stopping(vm, _programs(folder, "dirname", "flock", "timeout", "sleep", speaker))
    shown, _ = stopping.communicate(timeout=LONG)
    thread.join(LONG)
    assert said == [b'PUT /x "y" $z\r\n']
    assert "good" in shown


def test_a_way_that_fails_leaves_the_next(vm: Script, folder: Path) -> None:
    programs = _programs(folder, "dirname", "flock", "timeout", "sleep", "perl", "sh")
    for name in ("socat", "python3"):
        (Path(programs) / name).write_text("#!/bin/sh\nexit 1\n")
        (Path(programs) / name).chmod(0o755)
    vm.write(button="send s.sock x; kill -KILL $pid")
    vm.begin()
    said, thread = _socket(vm.place.run / "s.sock", b"")
    _stopping(vm, programs).communicate(timeout=LONG)
    thread.join(LONG)
    assert said == [b"x"]


@pytest.mark.parametrize("moved", ["folder", "run", "both", "above"])
def test_folders_that_were_moved_are_found(moved: str, folder: Path) -> None:
    """By the descriptors of the VMM: a manager that is not to be found must not be a guest's power cut."""
    vm = _script(folder / "above")
    vm.write(button=f"pwd -P >>'{folder}/pressed'; kill -KILL $pid")
    pid = vm.begin()
    above, place = folder / "above", vm.place
    ways = {"folder": [place.folder], "run": [place.run], "both": [place.folder, place.run], "above": [above]}
    for path in ways[moved]:
        path.rename(path.with_name(f"{path.name} away"))
        # Another one of its name has come.
        path.mkdir()
    (script,) = folder.rglob("vmm.sh")
    os.kill(pid, 0)
    ran = subprocess.run([script, "stop"], capture_output=True, text=True, timeout=LONG, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    where = {"folder": "above/r", "run": "above/r away", "both": "above/r away", "above": "above away/r"}
    assert (folder / "pressed").read_text() == f"{folder / where[moved]}\n"


def test_without_its_runtime_folder_it_says_so_and_waits(vm: Script) -> None:
    vm.write(button=f"send s.sock x; echo tried >>'{vm.place.folder}/tried'")
    pid = vm.begin()
    shutil.rmtree(vm.place.run)
    stopping = _stopping(vm)
    _wait((vm.place.folder / "tried").exists)
    assert stopping.poll() is None
    os.kill(pid, signal.SIGKILL)
    _, error = stopping.communicate(timeout=LONG)
    assert stopping.returncode == 0
    assert "shut it down from inside" in error


def test_a_record_that_names_another_process_leads_nowhere(vm: Script, folder: Path) -> None:
    """A VMM may write into its own: the button of another VM is not pressed for it."""
    (folder / "other").mkdir()
    other = _script(folder / "other")
    other.write()
    theirs = other.begin()
    vm.write(button=f"pwd -P >>'{folder}/pressed'; false")
    pid = vm.begin()
    vm.place.record.write_text(vm.place.record.read_text().replace(str(pid), str(theirs), 1))
    stopping = _stopping(vm)
    _wait((folder / "pressed").exists)
    for one in (pid, theirs):
        os.kill(one, signal.SIGKILL)
    stopping.communicate(timeout=LONG)
    assert (folder / "pressed").read_text().splitlines()[0] == str(vm.place.run)


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
    _wait(_gone(vm))


@pytest.mark.parametrize("deaf", [False, True])
def test_when_the_power_is_cut_it_is_gone(deaf: bool, vm: Script) -> None:
    listens = vm.place.run / "listens"
    trap = f"trap {'true' if deaf else 'exit'} TERM; : >'{listens}'"
    vm.write("sh", "-c", f"{trap}; while true; do sleep 0.1; done")
    pid = vm.begin()
    _wait(listens.exists)
    run(cut_power(pid, vm.place.record))
    assert running(vm.place.record) is None


@pytest.mark.parametrize("odd", ODD)
def test_odd_paths_and_words_stay_what_they_are(odd: str, folder: Path) -> None:
    vm = _script(folder / odd)
    told = vm.place.run / "told"
    vm.write("sh", "-c", 'printf "%s" "$1" >"$2"; exec sleep 600', "sh", odd, str(told), button="true")
    subprocess.run(["sh", "-n", vm.place.script], check=True, timeout=LONG)
    pid = vm.begin()
    try:
        _wait(lambda: told.exists() and told.read_text() == odd)
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
