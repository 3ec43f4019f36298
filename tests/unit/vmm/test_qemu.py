from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.support import make_vm
from tests.unit.vmm.test_driver import LAUNCH
from virshle.errors import ConfigError, ConflictError, HostError, TimedOutError
from virshle.exec.process import kill_launched
from virshle.exec.process import launch as launcher
from virshle.model.arch import ARCHES, Arch, host_arch
from virshle.model.vm import Vm
from virshle.plan import Call, Gone, Run, Wait, Write
from virshle.rpc import Qmp
from virshle.vmm import qemu
from virshle.vmm.driver import Machine, Terminal
from virshle.vmm.qemu import Qemu, arguments, find_firmware, version

_FIRMWARE = (Path("/fw/CODE.fd"), Path("/fw/VARS.fd"))


NOW = datetime(2024, 5, 6, tzinfo=UTC)


@pytest.fixture(autouse=True)
def firmware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "find_firmware", lambda arch: _FIRMWARE)


def _machine(vm: Vm, folder: str = "/s/vm/u", run: str = "/r/vm/u", **launch: Any) -> Machine:
    chosen = replace(LAUNCH, **{"program": "/bin/qemu", **launch})
    at = Path(folder)
    logs = at / "log/console.log", at / "log/vmm.log"
    return Machine(vm, at, Path(run), chosen, at / "vmm.pid", at / "disk/.seed", *logs)


def _file(node: str, path: str, *, readonly: bool, **more: Any) -> dict[str, Any]:
    file = {"driver": "file", "filename": path, "discard": "unmap"}
    return {"driver": "raw", "node-name": node, "read-only": readonly, "file": file, **more}


def _split(words: tuple[str, ...]) -> list[object]:
    """JSON is compared as what it says."""
    return [json.loads(word) if word.startswith("{") else word for word in words]


_COMMON = [
    *("-no-user-config", "-nodefaults", "-display", "none", "-msg", "timestamp=on", "-rtc", "base=utc"),
    *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
]
_END: list[object] = [
    *("-device", "virtio-rng-pci"),
    *("-device", "virtio-balloon-pci,deflate-on-oom=on,free-page-reporting=on"),
    *("-chardev", "pipe,id=console,path=/r/vm/u/console,logfile=/s/vm/u/log/console.log,logappend=on"),
    *("-serial", "chardev:console"),
    *("-device", "virtio-serial-pci"),
    *("-chardev", "file,id=ready,path=/r/vm/u/ready"),
    *("-device", "virtserialport,chardev=ready,name=org.virshle.ready.0"),
    *("-qmp", "unix:/r/vm/u/qmp.sock,server=on,wait=off"),
]
_SEED: list[object] = [
    *("-blockdev", _file("seed", "/s/vm/u/disk/.seed", readonly=True)),
    *("-device", "virtio-blk-pci,drive=seed,serial=seed"),
]


@pytest.mark.parametrize(
    ("arch", "accelerator", "machine", "cpu"),
    [
        ("x86_64", "tcg", "q35,accel=tcg", "max"),
        ("x86_64", "kvm", "q35,accel=kvm", "host"),
        ("aarch64", "tcg", "virt,accel=tcg", "max"),
        ("aarch64", "kvm", "virt,accel=kvm", "host"),
    ],
)
def test_the_whole_command_line_of_a_kernel_boot(arch: str, accelerator: str, machine: str, cpu: str) -> None:
    vm = make_vm()
    expected = [
        "/bin/qemu",
        *("-name", "guest=web", "-uuid", str(vm.uuid), "-machine", machine, "-cpu", cpu, "-smp", "2", "-m", "512M"),
        *_COMMON,
        *("-kernel", "/s/vm/u/boot/kernel", "-initrd", "/s/vm/u/boot/initrd", "-append", "console=ttyS0"),
        *("-blockdev", _file("disk0", "/s/vm/u/disk/os", readonly=False, discard="unmap")),
        *("-device", "virtio-blk-pci,drive=disk0,bootindex=1,serial=os"),
        *_SEED,
        *("-netdev", "user,id=net0,hostfwd=tcp:127.0.0.1:22001-:22"),
        *("-device", "virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01,romfile="),
        *_END,
    ]
    assert _split(arguments(_machine(vm, accelerator=accelerator), ARCHES[arch])) == expected


@pytest.mark.parametrize(("arch", "board"), [("x86_64", "q35"), ("aarch64", "virt")])
def test_the_whole_command_line_of_a_firmware_boot(arch: str, board: str) -> None:
    disks = [
        {"name": "os", "file": "disk/os", "size": 1},
        {"name": "x" * 30, "file": "disk/data", "size": 1, "readonly": True},
    ]
    vm = make_vm(disks=disks, nets=[], boot={"kind": "firmware", "variables": "boot/efivars.fd"}, memory=3 * 2**30)
    expected = [
        "/bin/qemu",
        *("-name", "guest=web", "-uuid", str(vm.uuid)),
        *("-machine", f"{board},accel=tcg,pflash0=code,pflash1=variables"),
        *("-cpu", "max", "-smp", "2", "-m", "3072M"),
        *_COMMON,
        *("-blockdev", _file("code", "/fw/CODE.fd", readonly=True)),
        *("-blockdev", _file("variables", "/s/vm/u/boot/efivars.fd", readonly=False)),
        *("-blockdev", _file("disk0", "/s/vm/u/disk/os", readonly=False, discard="unmap")),
        *("-device", "virtio-blk-pci,drive=disk0,bootindex=1,serial=os"),
        *("-blockdev", _file("disk1", "/s/vm/u/disk/data", readonly=True, discard="unmap")),
        *("-device", f"virtio-blk-pci,drive=disk1,bootindex=2,serial={'x' * 20}"),
        *_SEED,
        *_END,
    ]
    assert _split(arguments(_machine(vm, ssh_port=None), ARCHES[arch])) == expected


@pytest.mark.parametrize("odd", ["a,b", 'a"b', "a b", "a'b", "a\\b", "a,,b"])
def test_odd_paths_stay_paths(odd: str) -> None:
    words = arguments(_machine(make_vm(), f"/s/{odd}", f"/r/{odd}"), ARCHES["x86_64"])
    files = {json.loads(word)["file"]["filename"] for word in words if word.startswith("{")}
    assert files == {f"/s/{odd}/disk/os", f"/s/{odd}/disk/.seed"}
    doubled = odd.replace(",", ",,")  # QEMU reads two as one
    assert f"pipe,id=console,path=/r/{doubled}/console,logfile=/s/{doubled}/log/console.log,logappend=on" in words
    assert f"file,id=ready,path=/r/{doubled}/ready" in words
    assert f"unix:/r/{doubled}/qmp.sock,server=on,wait=off" in words
    assert f"/s/{odd}/boot/kernel" in words


def test_only_the_first_net_is_reached_by_ssh() -> None:
    nets = [{"name": name, "type": "user", "mac": f"02:00:00:00:00:0{name}"} for name in "12"]
    words = arguments(_machine(make_vm(nets=nets)), ARCHES["x86_64"])
    assert "user,id=net1" in words
    assert sum("hostfwd" in word for word in words) == 1


@pytest.mark.parametrize(
    ("kvm", "accelerator", "why"), [("", "kvm", "/dev/kvm is usable"), ("/dev/kvm is not there", "tcg", "is not there")]
)
def test_the_launch_says_what_was_chosen_and_why(
    kvm: str, accelerator: str, why: str, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "kvm_problem", lambda arch: kvm)
    launch = Qemu().choose(make_vm(), ssh_port=22002, now=NOW, token="t")
    assert (launch.version, launch.accelerator, launch.ssh_port) == ("7.2.22", accelerator, 22002)
    assert why in launch.why
    assert launch.program.endswith(f"/bin/{host_arch().qemu}")


def test_without_qemu_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "find_program", lambda _: None)
    with pytest.raises(ConfigError, match=r"qemu-system-.* is not on this machine") as caught:
        Qemu().choose(make_vm(), ssh_port=None, now=NOW, token="t")
    assert "apt-get install qemu-system-" in caught.value.hint


@pytest.mark.parametrize(
    ("said", "shown"), [("QEMU emulator version 9.2.0", "9.2.0"), ("version 10.0", "10.0"), ("?", "unknown")]
)
def test_the_version_is_asked_once(said: str, shown: str, host: FakeHost) -> None:
    host.answers["qemu"] = said
    assert version("qemu") == shown
    assert version("qemu") == shown
    assert len(host.calls) == 1


def _arch(*pairs: tuple[Path, Path], name: str = "x86_64") -> Arch:
    firmware = tuple((str(code), str(variables)) for code, variables in pairs)
    return Arch(name, "qemu", "q35", (), firmware, "amd64", "x86_64-linux")


def test_the_first_whole_pair_of_firmware_is_taken(tmp_path: Path) -> None:
    pairs = [(tmp_path / f"code{n}", tmp_path / f"vars{n}") for n in range(3)]
    for path in (pairs[0][0], *pairs[1], *pairs[2]):
        path.write_text("")
    assert find_firmware(_arch(*pairs)) == pairs[1]


@pytest.mark.parametrize(("name", "package"), [("x86_64", "ovmf"), ("aarch64", "qemu-efi-aarch64")])
def test_missing_firmware_is_told_with_its_package(name: str, package: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_firmware(_arch((tmp_path / "a", tmp_path / "b"), name=name))
    assert package in caught.value.hint


def test_a_firmware_boot_gets_a_store_of_variables_of_its_own() -> None:
    vm = make_vm(boot={"kind": "firmware", "variables": "boot/efivars.fd"})
    (step,) = Qemu().prepare(vm, Path("/s"))
    assert step.shell() == "cp --no-preserve=mode,ownership -- /fw/VARS.fd /s/boot/efivars.fd"
    assert Qemu().prepare(make_vm(), Path("/s")) == []


def test_a_launch_notes_starts_and_waits_for_an_answer() -> None:
    machine = _machine(make_vm())
    note, *line, start, wait = Qemu().launch(machine)
    assert [step.shell() for step in line] == [
        "rm -f -- /r/vm/u/console.in /r/vm/u/console.out",
        "mkfifo -m 0600 -- /r/vm/u/console.in",
        "ln -s -- /dev/null /r/vm/u/console.out",
    ]
    assert isinstance(note, Write)
    assert note.path == Path("/r/vm/u/launch.json")
    assert isinstance(start, Run)
    words = arguments(machine, host_arch())
    assert start.command.argv[-len(words) :] == words
    assert start.command.detached
    assert start.command == launcher(
        words, record=machine.record, token="t0k3n", sockets=machine.run, log=machine.vmm_log
    )
    assert isinstance(wait, Wait)
    assert wait.logs == (machine.vmm_log,)
    assert wait.fatal == Gone(machine.record)
    (undo,) = start.undo
    assert isinstance(undo, Run)
    assert undo.command == kill_launched(machine.record, "t0k3n")


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"status": "running"}, "running"),
        ({"status": "paused"}, "paused"),
        ({"status": "suspended"}, "paused"),
        ({"status": "guest-panicked"}, "crashed"),
        ({"status": "io-error"}, "crashed"),
        ({"status": "something new"}, "unknown"),
        ({}, "unknown"),
        (HostError("gone"), "unknown"),
        (TimedOutError("busy"), "unknown"),
    ],
)
def test_the_state_is_what_qemu_says(answer: object, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Qmp] = []

    def send(self: Qmp) -> object:
        asked.append(self)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Qmp, "send", send)
    assert Qemu().state(Path("/r")) == state
    assert [(request.command, request.socket) for request in asked] == [("query-status", Path("/r/qmp.sock"))]
    assert asked[0].timeout <= 5


def test_the_power_button_is_pressed_by_qmp() -> None:
    step = Qemu().power_button(Path("/r"), 7)
    assert isinstance(step, Call)
    assert step.request == Qmp(Path("/r/qmp.sock"), "system_powerdown", timeout=7)


def test_the_console_is_a_fifo_beside_the_log(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match=r"console\.in is not there"):
        Qemu().console(tmp_path)
    (tmp_path / "console.in").write_text("no fifo")
    with pytest.raises(ConflictError):
        Qemu().console(tmp_path)
    (tmp_path / "console.in").unlink()
    os.mkfifo(tmp_path / "console.in")
    assert Qemu().console(tmp_path) == Terminal(tmp_path / "console.in", "fifo")
