"""Nothing of a VM reaches a shell but as a word, and nothing outside of its folders is worked on."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fakehost import FakeHost
from tests.unit.hostile import FEW, FILES, WORDS, folder_names
from tests.unit.service.conftest import CloudGuest, Guest
from tests.unit.support import make_vm, put_vm, snapshot, uuid_of
from tests.unit.vmm.test_driver import LAUNCH
from virshle.errors import ConflictError, HostError
from virshle.rpc import Listen, Qmp, Vsock
from virshle.service.console import KEPT, Console
from virshle.service.lifecycle import delete, stop
from virshle.service.node import Entry, Node
from virshle.service.ssh import pin_steps
from virshle.service.start import start
from virshle.store import Layout
from virshle.store.layout import known_hosts
from virshle.vmm.cloud_hypervisor import CloudHypervisor
from virshle.vmm.driver import Driver, Machine, Place
from virshle.vmm.launch import script
from virshle.vmm.qemu import Qemu

WEB = uuid_of("web")
STATE, RUN = "/STATE", "/RUN"


@pytest.fixture
def web(node: Node, layout: Layout, guest: Guest) -> Entry:
    put_vm(layout, make_vm())
    return node.store.find("web")


def _script(driver: Driver, state: str, run: str) -> str:
    place = Place(Path(state, "vm", str(WEB)), Path(run, "vm/0"))
    # With a unit, as without one a command is in a command, which shlex cannot read.
    launch = replace(LAUNCH, hypervisor=driver.name, cid=3, unit="u")
    machine = Machine(make_vm(boot={"kind": "kernel", "kernel": "k", "initrd": "i", "cmdline": ""}), place, launch)
    return script(machine, driver.vmm(machine))


def _words(text: str) -> list[str]:
    """Of a shell script; those of a command for another program come without what escapes them there."""
    return [word.replace("\\", "").replace(",,", ",") for word in shlex.split(text, comments=True)]


@FEW
@given(state=folder_names, run=folder_names, driver=st.sampled_from([CloudHypervisor(), Qemu()]))
def test_no_folder_is_more_than_a_part_of_a_word_of_vmm_sh(state: str, run: str, driver: Driver) -> None:
    state, run = f"/{state}", f"/{run}"
    plain = _words(_script(driver, STATE, RUN))
    odd = _words(_script(driver, state, run))
    state, run = (text.replace("\\", "").replace(",,", ",") for text in (state, run))
    # In QEMU's JSON some of it is written otherwise.
    pairs = [(ours, theirs) for ours, theirs in zip(plain, odd, strict=True) if not ours.startswith('{"driver"')]
    assert [theirs for _, theirs in pairs] == [ours.replace(STATE, state).replace(RUN, run) for ours, _ in pairs]


@pytest.mark.parametrize("word", [word for word in WORDS if "\n" not in word])
def test_no_command_line_of_a_kernel_is_more_than_a_word(word: str) -> None:
    boot = {"kind": "kernel", "kernel": "boot/$(x) `x`", "initrd": "-i", "cmdline": word}
    machine = Machine(make_vm(boot=boot), Place(Path("/s"), Path("/r")), LAUNCH)
    words = shlex.split(script(machine, Qemu().vmm(machine)), comments=True)
    assert words[words.index("-append") + 1] == word
    assert words[words.index("-initrd") + 1] == "/s/-i"


@pytest.mark.parametrize("kind", ["link", "loop", "dangling link", "pipe", "socket", "empty"])
@pytest.mark.parametrize("name", ["disk", "boot", "log", "seed", "run"])
def test_no_start_where_a_folder_leads_elsewhere(
    name: str, kind: str, web: Entry, node: Node, host: FakeHost, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    path = node.place(WEB).run if name == "run" else web.folder / name
    if path.is_dir():
        path.rename(tmp_path / "old")
        for file in (tmp_path / "old").iterdir():
            (precious / file.name).write_bytes(file.read_bytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link":
        path.symlink_to(precious)
    else:
        FILES[kind](path)
    before = snapshot(precious)
    with pytest.raises(ConflictError, match="web cannot start"):
        start(node, web)
    assert (host.calls, snapshot(precious)) == ([], before)


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind not in ("no UTF-8", "deep", "empty", "huge")])
@pytest.mark.parametrize("name", ["vmm.pid", "log/console.log", "log/vmm.log", "boot/kernel", "disk/os"])
def test_nor_where_a_file_does(name: str, kind: str, web: Entry, node: Node, host: FakeHost) -> None:
    (web.folder / name).unlink(missing_ok=True)
    FILES[kind](web.folder / name)
    with pytest.raises(ConflictError, match="web cannot start"):
        start(node, web)
    assert host.calls == []


@pytest.mark.skipif(os.geteuid() != 0, reason="SKIPPED LOUDLY: only root can give a folder away")
@pytest.mark.parametrize("act", [start, stop, delete])
def test_a_vm_of_somebody_else_is_left_alone(
    act: Callable[..., object], web: Entry, node: Node, host: FakeHost
) -> None:
    """He could change its folders to links while we work there."""
    os.chown(web.folder, 1, 1)
    with pytest.raises(ConflictError, match=r"web is not yours: .* belongs to the user with the number 1") as caught:
        act(node, web)
    assert caught.value.hint.startswith("to make it yours: chown")
    assert (host.calls, web.folder.exists()) == ([], True)
    # And of the others' no verb cares.
    put_vm(node.layout, make_vm("other", 2))
    start(node, node.store.find("other"))


def test_a_state_folder_that_is_a_link_is_as_good_as_any(tmp_path: Path, layout: Layout, web: Entry) -> None:
    (tmp_path / "link").symlink_to(layout.paths.state)
    node = Node(replace(layout.paths, state=tmp_path / "link"))
    start(node, node.store.find("web"))
    assert stop(node, node.store.find("web"), force=True)
    delete(node, node.store.find("web"))
    assert (list(layout.vms.iterdir()), (tmp_path / "link").is_symlink()) == ([], True)


def test_what_a_vmm_answers_is_no_line_of_the_command_log(
    web: Entry, node: Node, cloud: CloudGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.refused["vm.boot"] = "no\nrm -rf /\n\x1b[2J \ud800"
    with pytest.raises(HostError):
        start(node, web)
    journal = (web.folder / "commands.log").read_text()
    assert "\x1b" not in journal
    assert [line for line in journal.splitlines() if "rm -rf /" in line and line.endswith("/")] == ["#   rm -rf /"]


@pytest.mark.parametrize("kind", FILES)
def test_a_known_host_file_that_is_none_is_written_anew(kind: str, web: Entry, node: Node) -> None:
    place = node.place(WEB)
    place.run.mkdir(parents=True)
    place.ready.write_text("X_VIRSHLE_SSH_HOST_KEY=ssh-ed25519 AAAA\n")
    FILES[kind](known_hosts(web.folder))
    (step,) = pin_steps(node, web.whole())
    assert f"{WEB} ssh-ed25519 AAAA\n" in step.shell()


@pytest.mark.parametrize(
    "said", ["", "@cert-authority * ssh-ed25519 AAAA", "ssh-ed25519 AAAA\rx", "x y", "ssh-é\u2028 A"]
)
def test_no_guest_tells_more_than_its_own_keys(said: str, web: Entry, node: Node) -> None:
    place = node.place(WEB)
    place.run.mkdir(parents=True)
    place.ready.write_text(f"X_VIRSHLE_SSH_HOST_KEY={said}\n")
    assert pin_steps(node, web.whole()) == []


@pytest.fixture
def running(web: Entry, node: Node, layout: Layout, host: FakeHost) -> Entry:
    host.run_vm(layout, WEB, LAUNCH.token)
    node.place(WEB).launch.write_text(LAUNCH.json())
    return web


@pytest.mark.parametrize("kind", ["pipe", "link", "loop", "dangling link", "folder", "link to a device"])
def test_a_console_log_that_is_none_is_not_followed(kind: str, running: Entry, node: Node, tmp_path: Path) -> None:
    place = node.place(WEB)
    os.mkfifo(place.run / "console.in")
    side = os.open(place.run / "console.in", os.O_RDWR | os.O_NONBLOCK)
    (tmp_path / "secret").write_text("secret")
    if kind == "link":
        place.console_log.symlink_to(tmp_path / "secret")
    else:
        FILES[kind](place.console_log)
    try:
        with pytest.raises(HostError, match="cannot open the console of web"):
            Console(node, running)
    finally:
        os.close(side)


def test_who_is_typed_to_is_a_pipe_and_no_link_to_a_file(running: Entry, node: Node, tmp_path: Path) -> None:
    place = node.place(WEB)
    place.console_log.write_text("")
    os.mkfifo(tmp_path / "elsewhere")
    side = os.open(tmp_path / "elsewhere", os.O_RDWR | os.O_NONBLOCK)
    (place.run / "console.in").symlink_to(tmp_path / "elsewhere")
    try:
        with pytest.raises(HostError, match="cannot open the console of web"):
            Console(node, running)
    finally:
        os.close(side)


def test_a_terminal_log_that_is_a_link_is_not_cut(
    running: Entry, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"x\n" * KEPT)
    node.place(WEB).terminal_log.symlink_to(precious)
    ours, theirs = os.openpty()
    told = {"config": {"console": {"file": os.ttyname(theirs)}}}
    monkeypatch.setattr("virshle.service.console.driver_of", lambda *_: CloudHypervisor())
    monkeypatch.setattr("virshle.rpc.Http.send", lambda _: told)
    try:
        with pytest.raises(HostError, match="cannot open the console of web"):
            Console(node, running)
    finally:
        os.close(ours)
        os.close(theirs)
    assert precious.stat().st_size == 2 * KEPT


def test_who_listens_opens_its_own_socket_to_all_and_nothing_else(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is the VMM's, which may put a link there at any moment."""
    precious = tmp_path / "precious"
    precious.touch(0o600)
    socket = layout.paths.run / "s"
    real = os.open

    def swap(path: Any, flags: int, *more: Any) -> int:
        if path == socket:
            socket.unlink()
            socket.symlink_to(precious)
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", swap)
    Listen(socket, tmp_path / "ready").send()
    assert precious.stat().st_mode & 0o777 == 0o600


@FEW
@given(run=folder_names)
def test_a_path_is_one_word_to_a_command_of_a_request(run: str) -> None:
    path = Path("/", run)
    for shell in (Vsock(3, 22, path).shell(), Listen(path, path).shell().removesuffix(" &")):
        words = shlex.split(shell)
        assert words[0] in ("sh", "socat")
        assert len(words) == (3 if words[0] == "sh" else 4)
    assert shlex.split(Qmp(path, "stop").shell())[:2] == ["printf", "%s\\n"]
