from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.support import make_vm
from tests.unit.vmm.test_driver import LAUNCH
from virshle.errors import ConfigError, ConflictError, HostError, TimedOutError
from virshle.model.arch import ARCHES, Arch, host_arch
from virshle.model.vm import Vm
from virshle.plan import Apply, Call, Gone, Plan, Wait
from virshle.rpc import Qmp, Vsock
from virshle.vmm import qemu
from virshle.vmm.driver import Machine, Place, Terminal
from virshle.vmm.qemu import Qemu, arguments, find_firmware, version

_FIRMWARE = (Path("/fw/CODE.fd"), Path("/fw/VARS.fd"))
PLACE = Place(Path("/s"), Path("/r"))


@pytest.fixture(autouse=True)
def firmware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "find_firmware", lambda arch: _FIRMWARE)


def _machine(vm: Vm, folder: str = "/s/vm/u", run: str = "/r/vm/u", **launch: Any) -> Machine:
    chosen = replace(LAUNCH, **{"program": "/bin/qemu", **launch})
    return Machine(vm, Place(Path(folder), Path(run)), chosen)


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
    *("-qmp", "unix:/r/vm/u/qmp.sock,server=on,wait=off", "-pidfile", "/s/vm/u/log/qemu.pid"),
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
    monkeypatch.setattr(qemu, "kvm_problem", lambda arch, user: kvm)
    choice = Qemu().choose(make_vm(), None)
    assert (choice.hypervisor, choice.version, choice.accelerator) == ("qemu", "7.2.22", accelerator)
    assert why in choice.why
    assert choice.program.endswith(f"/bin/{host_arch().qemu}")


def test_without_qemu_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "find_program", lambda _: None)
    with pytest.raises(ConfigError, match=r"qemu-system-.* is not on this machine") as caught:
        Qemu().choose(make_vm(), None)
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
    return Arch(name, "qemu", "q35", (), firmware, ("code.fd", "vars.fd"), (), "amd64", "x86_64-linux")


def test_the_first_whole_pair_of_firmware_is_taken(tmp_path: Path) -> None:
    pairs = [(tmp_path / f"code{n}", tmp_path / f"vars{n}") for n in range(3)]
    for path in (pairs[0][0], *pairs[1], *pairs[2]):
        path.write_text("")
    assert find_firmware(_arch(*pairs)) == pairs[1]


def test_what_qemu_brings_itself_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a Nix store, where nothing is in /usr/share."""
    program, share = tmp_path / "store/bin/qemu", tmp_path / "store/share/qemu"
    for path in (program, share / "code.fd", share / "vars.fd"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    program.chmod(0o755)
    (tmp_path / "profile").symlink_to(program.parent)
    monkeypatch.setenv("PATH", str(tmp_path / "profile"))
    missing = (tmp_path / "a", tmp_path / "b")
    assert find_firmware(_arch(missing)) == (share / "code.fd", share / "vars.fd")
    (share / "vars.fd").unlink()
    with pytest.raises(ConfigError):
        find_firmware(_arch(missing))


@pytest.mark.parametrize(("name", "package"), [("x86_64", "ovmf"), ("aarch64", "qemu-efi-aarch64")])
def test_missing_firmware_is_told_with_its_package(name: str, package: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_firmware(_arch((tmp_path / "a", tmp_path / "b"), name=name))
    assert package in caught.value.hint


def test_a_firmware_boot_gets_a_store_of_variables_of_its_own_once(tmp_path: Path) -> None:
    machine = _machine(make_vm(boot={"kind": "firmware", "variables": "efivars.fd"}), str(tmp_path))
    copy, lasting, whole, *console = Qemu().prepare(machine)
    assert copy.shell() == f"cp --no-preserve=mode,ownership -- /fw/VARS.fd {tmp_path}/.efivars.fd.part"
    assert lasting.shell() == f"sync -- {tmp_path}/.efivars.fd.part"
    assert whole.shell() == f"mv -T -- {tmp_path}/.efivars.fd.part {tmp_path}/efivars.fd"
    (tmp_path / "efivars.fd").touch()
    assert Qemu().prepare(machine) == console
    assert Qemu().prepare(_machine(make_vm())) == console


def test_where_nothing_is_known_the_store_of_variables_is_looked_for_when_it_is_made(tmp_path: Path) -> None:
    machine = _machine(make_vm(boot={"kind": "firmware", "variables": "efivars.fd"}), str(tmp_path))
    (tmp_path / "efivars.fd").touch()
    copy, lasting, whole, *console = Qemu().prepare(machine, blind=True)
    assert console == Qemu().prepare(machine)
    for step, program in ((copy, "cp"), (lasting, "sync"), (whole, "mv")):
        looked, file, *words = shlex.split(step.shell().partition("-c ")[2])
        assert (looked, file) == ('[ -e "$0" ] || "$@"', f"{tmp_path}/efivars.fd")
        assert words[0] == program


def test_its_console_is_a_pipe_of_this_run_which_is_its_users(host: FakeHost) -> None:
    """QEMU, which may not be ours, types what is written there; what the guest says has one reader, its log."""
    run = Path(os.environ["VIRSHLE_RUN_DIR"])
    machine = _machine(make_vm(), run=str(run))
    for _ in range(2):
        with Apply() as apply:
            apply(Plan("web", Qemu().prepare(machine)))
            apply.commit()
        assert (run / "console.in").is_fifo()
        assert (run / "console.out").readlink() == Path("/dev/null")
        assert Qemu().vmm(machine).made == (run / "console.in",)


def test_its_process_is_the_whole_command_line() -> None:
    machine = _machine(make_vm())
    vmm = Qemu().vmm(machine)
    assert vmm.argv == arguments(machine, host_arch())
    assert vmm.output == machine.place.vmm_log
    assert vmm.stale == (machine.place.run / "qmp.sock",)
    assert vmm.helpers == ()


def test_its_power_button_is_felt_by_a_guest_that_was_paused_or_sleeps() -> None:
    said = [shlex.split(line) for line in Qemu().vmm(_machine(make_vm())).power_button.split("; ")]
    assert [words[:2] for words in said] == [["send", "qmp.sock"]] * 3
    lines = [words[2].encode().decode("unicode_escape").splitlines() for words in said]
    assert lines == [
        ['{"execute":"qmp_capabilities"}', json.dumps({"execute": command})]
        for command in ("cont", "system_wakeup", "system_powerdown")
    ]


def test_it_has_begun_when_it_answers_and_has_failed_when_it_is_gone() -> None:
    machine = _machine(make_vm())
    (wait,) = Qemu().boot(machine)
    assert isinstance(wait, Wait)
    assert "query-status" in wait.until.shell()
    assert wait.logs == (machine.place.vmm_log,)
    assert wait.fatal == Gone(machine.place.record)


@pytest.mark.parametrize("nets", [0, 1])
@pytest.mark.parametrize("vsock", [False, True])
def test_a_vsock_is_the_way_in_where_there_is_no_net(
    nets: int, vsock: bool, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "_vsock_works", lambda user: vsock)
    vm = make_vm() if nets else make_vm(nets=[])
    cid = Qemu().choose(vm, None).cid
    assert (cid is not None) is (vsock and not nets)
    words = arguments(_machine(vm, cid=cid), ARCHES["x86_64"])
    assert (f"vhost-vsock-pci,guest-cid={cid}" in words) is (cid is not None)


def test_each_guest_has_a_number_of_its_own_that_is_not_taken() -> None:
    numbers = [qemu._cid(make_vm(f"vm-{number}")) for number in range(500)]
    assert len(set(numbers)) == 500
    assert min(numbers) >= 3
    assert qemu._cid(make_vm(uuid="ffffffff-ffff-ffff-ffff-ffffffffffff")) < 2**32 - 1
    assert qemu._cid(make_vm(uuid="00000000-0000-0000-0000-000000000000")) == 3


def test_it_ended_well_where_it_took_its_pid_file_away(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path)
    place.logs.mkdir()
    assert Qemu().ended_well(place, LAUNCH)
    (place.logs / "qemu.pid").write_text("7\n")
    assert not Qemu().ended_well(place, LAUNCH)


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"status": "running"}, "running"),
        ({"status": "paused"}, "paused"),
        ({"status": "suspended"}, "paused"),
        ({"status": "guest-panicked"}, "crashed"),
        ({"status": "io-error"}, "paused"),
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
    assert Qemu().state(PLACE, LAUNCH).state == state
    assert [(request.command, request.socket) for request in asked] == [("query-status", Path("/r/qmp.sock"))]
    assert asked[0].timeout <= 5


RUN_STATES = (
    "debug inmigrate internal-error io-error paused postmigrate prelaunch finish-migrate restore-vm running save-vm "
    "shutdown suspended watchdog guest-panicked colo"
)
"""QEMU: qapi/run-state.json, 'RunState'."""


@pytest.mark.parametrize("status", RUN_STATES.split())
def test_only_a_guest_that_runs_is_said_to_run_and_of_others_it_is_said_why(
    status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Qmp, "send", lambda _: {"status": status})
    told = Qemu().state(PLACE, LAUNCH)
    assert told.state != "unknown"
    assert (told.state == "running") is (status == "running")
    # To pause a guest is what a user does.
    assert bool(told.why) is (status not in ("running", "paused"))


def test_a_status_that_is_not_known_is_told_but_not_at_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Qmp, "send", lambda _: {"status": "no\n" * 10**6})
    told = Qemu().state(PLACE, LAUNCH)
    assert told.about("web").startswith("QEMU says that its state is 'no\\nno")
    assert len(told.about("web")) < 100


def test_a_guest_that_sleeps_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    for status, command in (("suspended", "system_wakeup"), ("paused", "cont"), ("io-error", "cont")):
        with monkeypatch.context() as patch:
            patch.setattr(Qmp, "send", lambda _, status=status: {"status": status})
            step = Qemu().resume(PLACE)
        assert isinstance(step, Call)
        assert isinstance(step.request, Qmp)
        assert step.request.command == command


def test_the_power_button_is_pressed_by_qmp() -> None:
    step = Qemu().power_button(PLACE, 7)
    assert isinstance(step, Call)
    assert step.request == Qmp(Path("/r/qmp.sock"), "system_powerdown", timeout=7)


def test_it_is_paused_and_goes_on_by_qmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Qmp, "send", lambda _: {"status": "paused"})
    requests = [step.request for step in (Qemu().pause(PLACE), Qemu().resume(PLACE)) if isinstance(step, Call)]
    assert requests == [Qmp(Path("/r/qmp.sock"), "stop"), Qmp(Path("/r/qmp.sock"), "cont")]


def test_what_the_guest_says_it_writes_down_itself() -> None:
    assert Qemu().notify_socket(PLACE) is None
    assert Qemu().vsock(PLACE, 7, 22) == Vsock(7, 22)


def test_its_console_is_typed_into_by_a_fifo_or_not_at_all(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path)
    typed = tmp_path / "console.in"
    for there in (False, True):  # it was started by hand: that is a file
        if there:
            typed.touch()
        with pytest.raises(ConflictError, match="its console takes no input") as caught:
            Qemu().console(place)
        assert "v logs" in caught.value.hint
    typed.unlink()
    os.mkfifo(typed)
    assert Qemu().console(place) == Terminal(typed, "fifo")
