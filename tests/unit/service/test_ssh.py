from __future__ import annotations

import os
import re
import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fakehost import FakeHost
from tests.unit.service.conftest import Guest
from tests.unit.support import make_vm, put_broken, put_vm, snapshot, uuid_of
from tests.unit.vmm.test_driver import LAUNCH
from virshle.errors import ConfigError, ConflictError, UsageError
from virshle.rpc import Vsock
from virshle.service.console import Console
from virshle.service.node import Node
from virshle.service.ssh import enter, pin_steps, ssh_command, told_keys
from virshle.store import Layout
from virshle.store.layout import known_hosts
from virshle.userdata import key_file
from virshle.vmm.driver import Place

WEB = uuid_of("web")
HOST_KEY = "ssh-ed25519 AAAAC3NzaHostKey"


@pytest.fixture
def run(layout: Layout, host: FakeHost) -> Place:
    """Of a VM that runs."""
    put_vm(layout, make_vm())
    place = Place(layout.vm(WEB), host.run_vm(layout, WEB))
    place.launch.write_text(LAUNCH.json())
    return place


def _command(node: Node, *words: str, **more: Any) -> tuple[str, ...]:
    return ssh_command(node, node.store.find("web").whole(), words, **more)


def _pin(node: Node) -> None:
    with node.apply() as apply:
        apply(node.plan(make_vm(), *pin_steps(node, make_vm())))


def _options(command: tuple[str, ...]) -> dict[str, str]:
    words = [word for before, word in pairwise(command) if before == "-o"]
    return dict(word.split("=", 1) for word in words)


def test_a_shell_is_opened_with_virshles_key(run: Place, node: Node) -> None:
    command = _command(node)
    assert command[:5] == ("ssh", "-F", "none", "-p", "22001")
    assert command[-3:] == ("-l", "root", "web")
    assert _options(command) == {
        "HostName": "127.0.0.1",
        "ProxyJump": "none",
        "ControlPath": "none",
        "HostKeyAlias": str(WEB),
        "UserKnownHostsFile": f'"{known_hosts(node.layout.vm(WEB))}"',
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "accept-new",
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes",
        "IdentityFile": f'"{key_file(node.layout.keys)}"',
        "ConnectTimeout": "30",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "LogLevel": "ERROR",
    }


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["uname", "-a"], "uname -a"),
        (["dmesg | tail"], "dmesg | tail"),
        (["echo", "a b", "$HOME", "it's"], shlex.join(["echo", "a b", "$HOME", "it's"])),
        (["-v"], "-v"),
        (["-o", "ProxyCommand=x"], "-o ProxyCommand=x"),
    ],
)
def test_one_word_is_for_the_guests_shell_and_several_are_themselves(
    words: list[str], sent: str, run: Place, node: Node
) -> None:
    assert _command(node, *words)[-3:] == ("web", "--", sent)


def test_another_user_may_log_in(run: Place, node: Node) -> None:
    assert _command(node, login="ada")[-3:] == ("-l", "ada", "web")


def test_no_login_is_an_option(run: Place, node: Node) -> None:
    with pytest.raises(UsageError, match="is not a user name"):
        _command(node, login="-oProxyCommand=touch /tmp/owned")


def test_a_state_folder_with_a_space_works(run: Place, node: Node, layout: Layout, tmp_path: Path) -> None:
    spaced = tmp_path / "a b"
    layout.paths.state.rename(spaced)
    moved = Node(replace(node.paths, state=spaced))
    value = _options(ssh_command(moved, moved.store.find("web").whole()))["UserKnownHostsFile"]
    assert shlex.split(value) == [str(known_hosts(moved.layout.vm(WEB)))]


def test_a_host_key_that_the_guest_told_is_pinned(run: Place, node: Node) -> None:
    run.ready.write_text(f"READY=1\nX_VIRSHLE_SSH_HOST_KEY={HOST_KEY}\nX_VIRSHLE_SSH_HOST_KEY=ssh-rsa AAAAB3=\n")
    assert _options(_command(node))["StrictHostKeyChecking"] == "yes"
    known = known_hosts(node.layout.vm(WEB))
    assert not known.exists()  # to make the command touches nothing
    _pin(node)
    assert known.read_text() == f"{WEB} {HOST_KEY}\n{WEB} ssh-rsa AAAAB3=\n"
    assert known.stat().st_mode & 0o777 == 0o600
    assert pin_steps(node, make_vm()) == []  # once


def test_what_was_pinned_is_replaced_where_the_guest_tells_another(run: Place, node: Node) -> None:
    known_hosts(node.layout.vm(WEB)).write_text(f"{WEB} ssh-rsa AAAAold=\n")
    run.ready.write_text(f"X_VIRSHLE_SSH_HOST_KEY={HOST_KEY}\n")
    _pin(node)
    assert known_hosts(node.layout.vm(WEB)).read_text() == f"{WEB} {HOST_KEY}\n"


@pytest.mark.parametrize(
    "line",
    [
        "X_VIRSHLE_SSH_HOST_KEY=",
        "X_VIRSHLE_SSH_HOST_KEY=* AAAA",
        f"{HOST_KEY}",
        f"X_VIRSHLE_SSH_HOST_KEY={HOST_KEY} *,@x",
    ],
)
def test_nothing_else_that_the_guest_says_is_believed(line: str, run: Place, node: Node) -> None:
    run.ready.write_bytes(b"\xff\n" + line.encode() + b"\n")
    assert _options(_command(node))["StrictHostKeyChecking"] == "accept-new"
    assert told_keys(node, make_vm()) == []
    assert pin_steps(node, make_vm()) == []
    assert not known_hosts(node.layout.vm(WEB)).exists()


@pytest.mark.parametrize(("ready", "login"), [("ssh", None), ("guest", "ada"), ("ssh", "ada")])
def test_where_ours_may_not_be_known_some_of_the_callers_keys_are_tried_too(
    ready: Any, login: str | None, layout: Layout, run: Place, node: Node
) -> None:
    """No more than a server lets one try, however many an agent has."""
    (layout.vm(WEB) / "vm.json").write_text(make_vm(ready=ready).model_dump_json())
    own = Path.home() / ".ssh"
    own.mkdir()
    for name in ("id_rsa", "id_ed25519", "id_ecdsa", "id_ecdsa_sk", "id_ed25519_sk", "work"):
        (own / f"{name}.pub").write_text("ssh-ed25519 AAAA")
    command = _command(node, login=login)
    files = [Path(word.partition("=")[2].strip('"')) for word in command if word.startswith("IdentityFile=")]
    assert files[0] == key_file(node.layout.keys)
    assert [file.name for file in files[1:]] == ["id_ed25519", "id_ed25519_sk", "id_ecdsa", "id_ecdsa_sk"]
    assert _options(command)["IdentitiesOnly"] == "yes"


def test_the_callers_options_come_after_those_by_which_the_guest_is_found(run: Place, node: Node) -> None:
    """ssh takes the first value that it is given."""
    command = _command(node, "top", options=["-t", "-o", "HostName=elsewhere", "-o", "ConnectTimeout=3"])
    assert command.index("HostName=127.0.0.1") < command.index("HostName=elsewhere")
    assert command.index("ConnectTimeout=3") < command.index("ConnectTimeout=30")
    assert command.index("-t") < command.index("web")


def test_without_an_ssh_that_is_said(run: Place, node: Node, host: FakeHost) -> None:
    (host.programs / "ssh").unlink()
    with pytest.raises(ConfigError, match="ssh is not on this machine"):
        _command(node)


@pytest.mark.parametrize(
    ("state", "said", "hint"),
    [
        ("paused", "web is paused", "resume it: v resume web"),
        ("suspended", "web is paused: its guest sleeps", "to wake it: v resume web"),
        ("guest-panicked", "web cannot be entered: its guest panicked", "v stop --force web"),
    ],
)
def test_a_guest_that_stands_still_is_not_waited_for(
    state: str, said: str, hint: str, run: Place, node: Node, guest: Guest
) -> None:
    guest.status = state
    with pytest.raises(ConflictError, match=said) as caught:
        _command(node)
    assert caught.value.hint.endswith(hint)


def test_a_stopped_vm_cannot_be_entered(run: Place, node: Node, host: FakeHost) -> None:
    host.die()
    with pytest.raises(ConflictError, match="web is stopped") as caught:
        _command(node)
    assert caught.value.hint == "start it: v start web --wait"


@pytest.mark.parametrize("port", [None, "no launch"])
def test_nor_can_one_without_a_net(port: str | None, run: Place, node: Node) -> None:
    if port is None:
        run.launch.write_text(replace(LAUNCH, ssh_port=None).json())
    else:
        run.launch.unlink()
    with pytest.raises(ConflictError, match="web has no way in for ssh"):
        _command(node)


def test_nor_can_a_broken_one(node: Node, layout: Layout) -> None:
    put_broken(layout, uuid_of("bad"), name="bad")
    with pytest.raises(ConflictError, match="bad is broken"):
        enter(node, node.store.find("bad"), [])


def test_entering_becomes_the_command(run: Place, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[tuple[str, ...]] = []
    monkeypatch.setattr("virshle.service.ssh.exec_into", became.append)
    run.ready.write_text(f"X_VIRSHLE_SSH_HOST_KEY={HOST_KEY}\n")
    enter(node, node.store.find("web"), ["id"], login="ada")
    assert became == [_command(node, "id", login="ada")]
    assert known_hosts(node.layout.vm(WEB)).read_text() == f"{WEB} {HOST_KEY}\n"
    assert "known_hosts" in (node.layout.vm(WEB) / "commands.log").read_text()


def test_a_path_with_a_percent_sign_is_no_name_of_sshs(run: Place, node: Node, layout: Layout, tmp_path: Path) -> None:
    odd = tmp_path / "a%h"
    layout.paths.state.rename(odd)
    moved = Node(replace(node.paths, state=odd))
    value = _options(ssh_command(moved, make_vm()))["UserKnownHostsFile"]
    assert value.replace("%%", "%") == f'"{known_hosts(moved.layout.vm(WEB))}"'
    assert "%%h" in value


CLOUD = replace(LAUNCH, hypervisor="cloud-hypervisor", cid=3)


def test_by_a_vsock_no_network_is_needed(run: Place, node: Node) -> None:
    run.launch.write_text(replace(CLOUD, ssh_port=None).json())
    command = _command(node, "id")
    options = _options(command)
    assert command[:5] == ("env", "SHELL=/bin/sh", "ssh", "-F", "none")
    assert options["ProxyCommand"] == Vsock(3, 22, run.run / "vsock").proxy()
    assert options["ProxyUseFdpass"] == "yes"
    assert "HostName" not in options
    assert "-p" not in command
    assert options["HostKeyAlias"] == str(WEB)  # the same machine by whichever way
    assert command[-3:] == ("web", "--", "id")


def test_it_is_taken_where_there_is_a_port_too(run: Place, node: Node) -> None:
    run.launch.write_text(CLOUD.json())
    (run.run / "vsock").touch()
    assert "-p" not in _command(node)


def test_the_port_is_taken_where_the_runtime_folder_has_no_vsock_any_more(run: Place, node: Node) -> None:
    run.launch.write_text(CLOUD.json())
    assert _command(node)[3:5] == ("-p", "22001")


def test_on_qemu_it_is_a_port_of_the_hosts_own(run: Place, node: Node) -> None:
    run.launch.write_text(replace(LAUNCH, cid=77, ssh_port=None).json())
    assert _options(_command(node))["ProxyCommand"].endswith("/virshle/rpc/dial.py 77 22")


def test_a_percent_sign_on_the_way_is_no_name_of_sshs(run: Place, node: Node, tmp_path: Path) -> None:
    run.launch.write_text(CLOUD.json())
    odd = Node(replace(node.paths, run=node.paths.run / "a%h%%"))
    odd.place(WEB).run.mkdir(parents=True)
    (odd.place(WEB).run / "vsock").touch()
    value = _options(ssh_command(odd, make_vm()))["ProxyCommand"]
    assert value.replace("%%", "%") == Vsock(3, 22, odd.place(WEB).run / "vsock").proxy()
    assert "a%%h%%%%/" in value


def test_nothing_is_written_for_the_vm_of_somebody_else(
    run: Place, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He could have made a link of what root writes there."""
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    before = snapshot(run.folder)
    web = node.store.find("web")
    with pytest.raises(ConflictError, match="web is not yours"):
        enter(node, web, ())
    with pytest.raises(ConflictError, match="web is not yours"):
        Console(node, web)
    assert snapshot(run.folder) == before


@pytest.mark.parametrize("odd", ["st%d x", "a${HOME}b", "a'b", 'a"b', "a\\b", "a\\'b", "a#b #c"])
def test_whatever_is_in_our_own_paths_is_only_a_path(
    odd: str, run: Place, node: Node, layout: Layout, tmp_path: Path
) -> None:
    """tests/host/test_ssh_words.py asks the real ssh."""
    layout.paths.state.rename(tmp_path / odd)
    moved = Node(replace(node.paths, state=tmp_path / odd))
    command = ssh_command(moved, make_vm())
    for name, path in (
        ("IdentityFile", key_file(moved.layout.keys)),
        ("UserKnownHostsFile", known_hosts(moved.layout.vm(WEB))),
    ):
        value = _options(command)[name]
        assert (value[0], value[-1]) == ('"', '"')
        read = re.sub(r'\\(["\\])', r"\1", value[1:-1]).replace("${VIRSHLE_DOLLAR}", "$").replace("%%", "%")
        assert read == str(path)
    assert ("VIRSHLE_DOLLAR=$" in command) == ("${" in odd)


@pytest.mark.parametrize("said", ["", "X_VIRSHLE_SSH_HOST_KEY=ssh-rsa AAAA\n", "READY=1\n"])
def test_a_guest_that_has_not_said_that_it_is_ready_is_told_of(
    said: str, run: Place, node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("virshle.service.ssh.exec_into", lambda _: None)
    run.ready.write_text(said)
    enter(node, node.store.find("web"), ["id"])
    assert ("v start web --wait" in capsys.readouterr().err) is (said != "READY=1\n")


def test_nor_is_one_told_of_to_which_nobody_listened(
    run: Place, node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("virshle.service.ssh.exec_into", lambda _: None)
    run.launch.write_text(CLOUD.json())
    enter(node, node.store.find("web"), ["id"])
    assert "--wait" not in capsys.readouterr().err
