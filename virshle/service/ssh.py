"""Into the guest: the ssh command of a VM."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from virshle import log
from virshle.errors import ConflictError, UsageError
from virshle.exec import exec_into, find_program
from virshle.exec.run import missing
from virshle.fs import check_known, read_start
from virshle.model.vm import LOGIN, Vm
from virshle.plan import Step, Write
from virshle.service.node import Node, check_owner
from virshle.service.ready import said_ready, told_of, vsock_of
from virshle.store import Entry
from virshle.store.layout import known_hosts
from virshle.userdata import key_file, personal_key_files
from virshle.vmm.seen import launch_of

_HOST_KEY = re.compile(r"^X_VIRSHLE_SSH_HOST_KEY=((?:ssh|ecdsa|sk)-[\w@.-]+ [A-Za-z0-9+/=]+)$", re.MULTILINE)


_PATIENCE = {
    # Seconds for a server to speak.
    "ConnectTimeout": "30",
    # One that does not answer is given up after 4 times 15 seconds: a guest of a busy host may stand still for long.
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "4",
}
_MOST_KEYS = 4
"""Of the caller's own, beside ours. A server allows 6 tries (sshd_config(5), MaxAuthTries), and ssh tries a key that an
agent has before one that is in a file only (OpenSSH: sshconnect2.c, pubkey_prepare)."""


def enter(
    node: Node, entry: Entry, words: Sequence[str], *, login: str | None = None, options: Sequence[str] = ()
) -> NoReturn:
    """Becomes ssh: its terminal and its exit code are ours. Raises ConflictError where there is no way in."""
    vm = entry.whole()
    check_owner(entry)
    command = ssh_command(node, vm, words, login=login, options=options)
    with node.apply() as apply:
        apply(node.plan(vm, *pin_steps(node, vm)))
        apply.commit()
    if not said_ready(node, vm):
        log.note(f"{vm.name} has not said yet that it is ready; to wait until it does: v start {vm.name} --wait")
    exec_into(command)


def ssh_command(
    node: Node, vm: Vm, words: Sequence[str] = (), *, login: str | None = None, options: Sequence[str] = ()
) -> tuple[str, ...]:
    """The words by which ssh enters a VM that runs. One of `words` is read by the guest's shell, several are the
    command and its arguments, as they are. `options`: more of ssh's, the caller's.

    Raises ConflictError where the VM does not run, is paused or has no way in, UsageError for a login that is no user's
    name, ConfigError where there is no ssh, or for a caller whom ssh does not serve.
    """
    if login is not None and not re.fullmatch(LOGIN, login):
        raise UsageError(f"{login!r} is no user's name", hint="for example: -l root")
    if find_program("ssh") is None:
        raise missing("ssh")
    check_known()
    _check_runs(node, vm)
    command = words[0] if len(words) == 1 else shlex.join(words)
    return ssh_words(
        vm,
        _way(node, vm),
        known_hosts(node.layout.vm(vm.uuid)),
        _keys(node, vm, login),
        pinned=bool(told_keys(node, vm)),
        login=login,
        options=options,
        command=command,
    )


def ssh_words(
    vm: Vm,
    way: Sequence[str],
    known: Path,
    keys: Sequence[Path],
    *,
    pinned: bool = False,
    login: str | None = None,
    options: Sequence[str] = (),
    command: str = "",
) -> tuple[str, ...]:
    """The one place where the words of ssh are made. No file of ssh's configuration is read (`-F none`), the user's or
    the system's: whatever is there, ssh goes to this guest. `pinned`: the file `known` has the host keys that the guest
    told. Our own options come before the caller's, as ssh takes the first value of each (ssh_config(5)).
    """
    fixed = [
        *way,
        *_identity(vm, pinned, known),
        # A connection that is shared is known by a name, which the caller may give to those of two VMs.
        *option("ControlPath", "none"),
        *option("IdentitiesOnly", "yes"),
        *(word for file in keys for word in option("IdentityFile", _path(file))),
    ]
    return (
        *_environment(fixed),
        *("ssh", "-F", "none", *fixed, *options),
        *(word for name, value in _PATIENCE.items() for word in option(name, value)),
        *option("LogLevel", "ERROR"),
        *("-l", login or vm.login),
        vm.name,
        *(["--", command] if command else []),
    )


def _check_runs(node: Node, vm: Vm) -> None:
    """A guest that stands still takes a connection and never speaks."""
    if node.process(vm.uuid) is None:
        raise ConflictError(f"{vm.name} is stopped", hint=f"start it: v start {vm.name} --wait")
    told = told_of(node.place(vm.uuid))
    if told.state in ("paused", "crashed"):
        why = f": {told.why}" if told.why else ""
        raise ConflictError(
            f"{vm.name} {'is paused' if told.state == 'paused' else 'cannot be entered'}{why}",
            hint=f"{told.remedy or 'let it go on: v resume'} {vm.name}",
        )


def _way(node: Node, vm: Vm) -> list[str]:
    """By the guest's vsock where it has one, which needs no network; else by its loopback port."""
    place = node.place(vm.uuid)
    launch = launch_of(place)
    way = vsock_of(launch, place)
    port = launch.ssh_port if launch else None
    # The runtime folder may be gone with its sockets, and the port still be there.
    if way and (port is None or way.path is None or way.path.exists()):
        return [*option("ProxyCommand", way.proxy().replace("%", "%%")), *option("ProxyUseFdpass", "yes")]
    if launch is None:
        raise ConflictError(
            f"{vm.name} has no way in for ssh that is known: its launch.json is lost, and its process cannot be seen",
            hint=f"fuser -v {shlex.quote(str(place.record))} names that process; v console needs no ssh",
        )
    if port is None:
        raise ConflictError(
            f"{vm.name} has no way in for ssh: neither a vsock nor a net of type user",
            hint='give its template a net of type = "user"; v console needs none',
        )
    return by_port(port)


def by_port(port: int) -> list[str]:
    # Without a jump there is no ProxyCommand of the caller's either: the first of the two counts (ssh_config(5)).
    return ["-p", str(port), *option("HostName", "127.0.0.1"), *option("ProxyJump", "none")]


def _identity(vm: Vm, pinned: bool, known: Path) -> list[str]:
    options = {
        "HostKeyAlias": f"{vm.uuid}",
        "UserKnownHostsFile": _path(known),
        "GlobalKnownHostsFile": "/dev/null",
        # Told by the guest on its own channel: strict. Else the first key seen is the one, and no other later.
        "StrictHostKeyChecking": "yes" if pinned else "accept-new",
        "UpdateHostKeys": "no",
    }
    return [word for name, value in options.items() for word in option(name, value)]


def _keys(node: Node, vm: Vm, login: str | None) -> list[Path]:
    """Ours alone, where the guest is known to have it. Else some of the caller's own too: the image may know them, or
    another user of the guest may have been given them."""
    ours = key_file(node.layout.keys)
    if vm.ready == "guest" and login in (None, vm.login):
        return [ours]
    return [ours, *personal_key_files()[:_MOST_KEYS]]


def option(name: str, value: str) -> tuple[str, str]:
    return "-o", f"{name}={value}"


def _path(path: Path) -> str:
    """One word of ssh's (OpenSSH: misc.c, argv_split), with % and ${ for its own names (ssh_config(5), TOKENS and
    ENVIRONMENT VARIABLES)."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return '"' + text.replace("${", f"${{{_DOLLAR}}}{{") + '"'


_DOLLAR = "VIRSHLE_DOLLAR"
"""Of the environment: in a path ssh knows no other word for a dollar before a brace."""


def _environment(words: Sequence[str]) -> tuple[str, ...]:
    shell = any(word.startswith("ProxyCommand=") for word in words)
    dollar = any(_DOLLAR in word for word in words)
    # A ProxyCommand is given to the user's shell, which may be of another syntax, or /usr/sbin/nologin.
    variables = [*(["SHELL=/bin/sh"] if shell else []), *([f"{_DOLLAR}=$"] if dollar else [])]
    return ("env", *variables) if variables else ()


def told_keys(node: Node, vm: Vm) -> list[str]:
    """The host keys that the guest told on its ready port, which nobody else has."""
    try:
        return _HOST_KEY.findall(read_start(node.place(vm.uuid).ready))
    except OSError:
        return []


def pin_steps(node: Node, vm: Vm) -> list[Step]:
    """Keeps what was told as the only keys that the VM may have."""
    file = known_hosts(node.layout.vm(vm.uuid))
    text = "".join(f"{vm.uuid} {key}\n" for key in told_keys(node, vm))
    if not text:
        return []
    with suppress(OSError):
        if read_start(file) == text:
            return []
    return [Write("pin the host key that the guest told", file, text)]
