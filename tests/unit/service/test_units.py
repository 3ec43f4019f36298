"""Root's VMs: their VMMs run as a user of their own, and as units of systemd where that runs."""

from __future__ import annotations

import os
import pwd
from types import SimpleNamespace

import pytest

from tests.unit.fakehost import FakeHost
from virshle.errors import ConfigError, ConflictError, HostError, TimedOutError
from virshle.service.lifecycle import delete, stop
from virshle.service.node import Entry, Node
from virshle.service.show import row
from virshle.service.start import start
from virshle.store.layout import definition
from virshle.vmm.systemd import forget

pytestmark = pytest.mark.usefixtures("guest")

UNIT = "virshle-vm-web"
FORGET = forget(UNIT).argv


def _crash(web: Entry, host: FakeHost) -> None:
    (web.folder / "log/qemu.pid").write_text("7\n")
    host.die()


def test_without_systemd_it_is_a_process_of_the_users(root: None, web: Entry, node: Node, host: FakeHost) -> None:
    launch = start(node, web).launch
    assert launch is not None
    assert (launch.user, launch.unit) == ("virshle-vmm", None)
    (argv,) = host.launches
    assert "--reuid=virshle-vmm" in argv
    assert not host.ran("systemd-run")
    assert host.owners[str(node.place(web.uuid).seed)] == "virshle-vmm"


def test_the_user_joins_the_group_before_its_first_vmm_runs(
    root: None, web: Entry, node: Node, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virshle.vmm.account._kvm_group", lambda: 36)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: SimpleNamespace(pw_uid=os.getuid(), pw_gid=7))
    monkeypatch.setattr(os, "getgrouplist", lambda user, gid: [gid])
    start(node, web)
    joined = host.calls.index(("usermod", "--append", "--groups", "kvm", "virshle-vmm"))
    (launched,) = host.launches
    assert joined < host.calls.index(launched)


def test_ones_own_vmm_is_ones_own(web: Entry, node: Node, host: FakeHost) -> None:
    launch = start(node, web).launch
    assert launch is not None
    assert (launch.user, launch.unit) == (None, None)
    assert not any(argv[0] in ("chown", "chmod", "useradd", "usermod", "systemd-run") for argv in host.calls)


def test_where_systemd_runs_it_is_a_unit(systemd: None, web: Entry, node: Node, host: FakeHost) -> None:
    launch = start(node, web).launch
    assert launch is not None
    assert (launch.user, launch.unit) == ("virshle-vmm", UNIT)
    (argv,) = host.launches
    assert argv[0] == "systemd-run"
    assert row(node, web).state == "running"


def test_what_systemd_could_not_shut_down_is_not_started(systemd: None, web: Entry, node: Node, host: FakeHost) -> None:
    """A host that goes down would cut its power."""
    (host.programs / "socat").unlink()
    with pytest.raises(ConfigError, match="socat is not on this machine") as caught:
        start(node, web)
    assert "apt-get install socat" in caught.value.hint
    assert host.launches == []
    host.have("perl")
    start(node, web)
    assert row(node, web).state == "running"


def test_without_systemd_nobody_is_to_press_it(web: Entry, node: Node, host: FakeHost) -> None:
    (host.programs / "socat").unlink()
    start(node, web)


def test_a_unit_that_failed_is_in_nobodys_way(systemd: None, web: Entry, node: Node, host: FakeHost) -> None:
    """systemd keeps it with its reason, and makes no other of its name until it is forgotten."""
    start(node, web)
    _crash(web, host)
    assert row(node, web).state == "crashed"
    assert UNIT in host.units
    start(node, web)
    assert row(node, web).state == "running"


KILLED = "its VMM was killed by SIGKILL: by a user, or by the kernel because memory was short"


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        (2, 9, f"{KILLED} (journalctl -u {UNIT} says which)"),
        (2, 31, "its VMM was killed by SIGSYS; its log ends with: warning: old"),
        (3, 6, "its VMM was killed by SIGABRT; its log ends with: warning: old"),
        (2, 64, "its VMM was killed by SIGRTMAX; its log ends with: warning: old"),
        (2, 40, "its VMM was killed by signal 40; its log ends with: warning: old"),
        (1, 1, "its VMM ended with exit code 1; its log ends with: warning: old"),
        (1, 0, "its VMM died; its log ends with: warning: old"),
        (0, 0, "its VMM died; its log ends with: warning: old"),
    ],
)
def test_systemd_says_how_a_vmm_ended(
    code: int, status: int, said: str, systemd: None, web: Entry, node: Node, host: FakeHost
) -> None:
    """As `systemctl show` of systemd 252 and 257 prints it, in any order."""
    start(node, web)
    with (web.folder / "log/vmm.log").open("a") as log:
        log.write("warning: old\n")
    _crash(web, host)
    host.answers["systemctl"] = f"ExecMainCode={code}\nExecMainStatus={status}\nWorkingDirectory=!{web.folder}\n"
    assert row(node, web).problem == said


@pytest.mark.parametrize("answer", ["", "?", "WorkingDirectory=/another\nExecMainCode=2\nExecMainStatus=9\n"])
def test_what_systemd_says_of_another_vm_or_not_at_all_is_not_taken(
    answer: str, systemd: None, web: Entry, node: Node, host: FakeHost
) -> None:
    start(node, web)
    _crash(web, host)
    host.answers["systemctl"] = answer
    assert row(node, web).problem == "its VMM died and wrote no message"
    (host.programs / "systemctl").unlink()
    assert row(node, web).problem == "its VMM died and wrote no message"


def test_a_systemd_that_hangs_keeps_no_list_from_its_end(systemd: None, web: Entry, node: Node, host: FakeHost) -> None:
    def hang(words: tuple[str, ...]) -> str:
        raise TimedOutError("`systemctl` did not end")

    start(node, web)
    _crash(web, host)
    host.answers["systemctl"] = hang
    assert row(node, web).problem == "its VMM died and wrote no message"


def test_a_unit_that_runs_for_another_is_not_taken(systemd: None, web: Entry, node: Node, host: FakeHost) -> None:
    def another(argv: tuple[str, ...]) -> None:
        if argv[0] == "systemd-run":
            host.units.add(UNIT)

    host.before = another
    with pytest.raises(ConflictError, match=f"systemd runs another {UNIT}.service already") as caught:
        start(node, web)
    assert f"systemctl status {UNIT}" in caught.value.hint
    assert host.alive == []


def test_a_unit_that_fails_for_another_reason_is_told_as_that(
    systemd: None, web: Entry, node: Node, host: FakeHost
) -> None:
    def fail(argv: tuple[str, ...]) -> None:
        if argv[0] == "systemd-run":
            raise OSError(5, "no bus")

    host.before = fail
    with pytest.raises(HostError, match="no bus"):
        start(node, web)


def test_nor_of_one_that_never_ran(systemd: None, web: Entry, node: Node, host: FakeHost) -> None:
    def fail(argv: tuple[str, ...]) -> None:
        if argv[0] == "systemd-run":
            raise OSError(5, "no bus")

    host.before = fail
    with pytest.raises(HostError):
        start(node, web)
    host.calls.clear()
    delete(node, web)
    assert FORGET in host.calls


@pytest.mark.parametrize("how", ["crashed", "running"])
def test_of_a_deleted_vm_systemd_keeps_nothing(how: str, systemd: None, web: Entry, node: Node, host: FakeHost) -> None:
    start(node, web)
    if how == "crashed":
        _crash(web, host)
    host.calls.clear()
    delete(node, web, force=True)
    assert FORGET in host.calls
    assert UNIT not in host.units
    killed = [index for index, argv in enumerate(host.calls) if argv in host.kills]
    assert all(index < host.calls.index(FORGET) for index in killed)
    assert len(killed) == (1 if how == "running" else 0)
    # Nobody would know its unit any more if that was cut short once the VM is gone.
    gone = next(index for index, argv in enumerate(host.calls) if argv[0] == "mv")
    assert host.calls.index(FORGET) < gone


def test_a_unit_is_forgotten_by_the_name_it_was_made_with(
    systemd: None, web: Entry, node: Node, host: FakeHost
) -> None:
    start(node, web)
    _crash(web, host)
    file = definition(web.folder)
    file.write_text(file.read_text().replace('"name": "web"', '"name": "renamed"'))
    delete(node, node.store.find("renamed"))
    assert UNIT not in host.units


def test_of_one_that_was_no_unit_systemd_is_not_asked(root: None, web: Entry, node: Node, host: FakeHost) -> None:
    start(node, web)
    stop(node, web)
    delete(node, web)
    assert not any("systemctl" in word for argv in host.calls for word in argv)
