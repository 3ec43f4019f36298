"""vmm.sh as it stops a VM: by the real sh, flock and what says something to a socket; and a real guest on QEMU."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.host.host import Host
from tests.host.script import LONG, Script, made, wait_until
from virshle.exec import run
from virshle.exec.process import Process, cut_power, running
from virshle.vmm.button import SPEAKERS


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
    wait_until(lambda: vm.pressed.exists() and vm.pressed.read_text().count("tried") > 2)
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
    wait_until(lambda: vm.pressed.exists() and vm.pressed.read_text().count("pressed") > 2)
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
    vm = made(folder / "above")
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
    wait_until((vm.place.folder / "tried").exists)
    assert stopping.poll() is None
    os.kill(pid, signal.SIGKILL)
    _, error = stopping.communicate(timeout=LONG)
    assert stopping.returncode == 0
    assert "shut it down from inside" in error


def test_a_record_that_names_another_process_leads_nowhere(vm: Script, folder: Path) -> None:
    """A VMM may write into its own: the button of another VM is not pressed for it."""
    (folder / "other").mkdir()
    other = made(folder / "other")
    other.write()
    theirs = other.begin()
    vm.write(button=f"pwd -P >>'{folder}/pressed'; false")
    pid = vm.begin()
    vm.place.record.write_text(vm.place.record.read_text().replace(str(pid), str(theirs), 1))
    stopping = _stopping(vm)
    wait_until((folder / "pressed").exists)
    for one in (pid, theirs):
        os.kill(one, signal.SIGKILL)
    stopping.communicate(timeout=LONG)
    assert (folder / "pressed").read_text().splitlines()[0] == str(vm.place.run)


def test_a_paused_guest_powers_off_where_little_is_left(host: Host) -> None:
    """Its runtime folder was moved, and of the programs that press the button only perl is there."""
    host.v("create", "-t", "tiny", "web", "--start", "--wait", "--timeout", "600")
    host.v("pause", "web")
    programs = host.folder / "programs"
    programs.mkdir()
    for name in ("sh", "dirname", "flock", "timeout", "sleep", "perl"):
        (programs / name).symlink_to(Path(shutil.which(name) or name).resolve())
    (folder,) = host.state.glob("vm/*")
    host.run.rename(host.run.with_name("away"))
    env = {**os.environ, "PATH": str(programs)}
    done = subprocess.run([folder / "vmm.sh", "stop"], env=env, text=True, capture_output=True, timeout=LONG)
    assert done.returncode == 0, done.stderr
    assert "pressed the power button of web" in done.stdout
    assert "Going down for poweroff" in (folder / "log/console.log").read_text(errors="replace")
    (row,) = host.ls()
    assert row["state"] == "stopped"
