"""The ssh command that enters a VM's guest."""

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
    # Seconds until the server must answer.
    "ConnectTimeout": "30",
    # ssh ends after 4 times 15 seconds without an answer. A guest on a busy host may stand still for long.
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "4",
}
_MOST_KEYS = 4
"""So many keys of the user are tried, beside our own. A server allows 6 tries (sshd_config(5), MaxAuthTries), and ssh
tries keys of the agent before keys that are only in files (OpenSSH: sshconnect2.c, pubkey_prepare)."""


def enter(
    node: Node, entry: Entry, words: Sequence[str], *, login: str | None = None, options: Sequence[str] = ()
) -> NoReturn:
    """Replaces this process by ssh: ssh has our terminal and gives our exit code. Raises ConflictError if there is no
    way in."""
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
    """The ssh command for a VM that runs. A single word in `words` is run by the guest's shell; several words are the
    command and its arguments, unchanged. `options`: more options for ssh, from the user.

    Raises ConflictError if the VM does not run, is paused or has no way in; UsageError if `login` is not a user name;
    ConfigError if ssh is not installed, or if ssh would refuse the user who runs v.
    """
    if login is not None and not re.fullmatch(LOGIN, login):
        raise UsageError(f"{login!r} is not a user name", hint="for example: -l root")
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
    """The one place that makes an ssh command. ssh reads no configuration file, neither the user's nor the system's
    (`-F none`), so it can only go to this guest. `pinned`: the file `known` has the host keys that the guest reported.
    Our options come before the user's, because ssh uses the first value of each option (ssh_config(5)).
    """
    fixed = [
        *way,
        *_identity(vm, pinned, known),
        # ssh finds a shared connection by its path, and the user may give the same path to the connections of two VMs.
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
    """Raises ConflictError if the VM cannot be entered. A paused guest would accept a connection and never answer."""
    if node.process(vm.uuid) is None:
        raise ConflictError(f"{vm.name} is stopped", hint=f"start it: v start {vm.name} --wait")
    told = told_of(node.place(vm.uuid))
    if told.state in ("paused", "crashed"):
        why = f": {told.why}" if told.why else ""
        raise ConflictError(
            f"{vm.name} {'is paused' if told.state == 'paused' else 'cannot be entered'}{why}",
            hint=f"{told.remedy or 'resume it: v resume'} {vm.name}",
        )


def _way(node: Node, vm: Vm) -> list[str]:
    """Through the guest's vsock if it has one, as that needs no network; else through its port on the loopback."""
    place = node.place(vm.uuid)
    launch = launch_of(place)
    way = vsock_of(launch, place)
    port = launch.ssh_port if launch else None
    # The runtime folder may be gone with its sockets, while the port still works.
    if way and (port is None or way.path is None or way.path.exists()):
        return [*option("ProxyCommand", way.proxy().replace("%", "%%")), *option("ProxyUseFdpass", "yes")]
    if launch is None:
        raise ConflictError(
            f"{vm.name} has no way in for ssh that v knows: its launch.json is lost, and v cannot read its process",
            hint=f"fuser -v {shlex.quote(str(place.record))} names that process; v console needs no ssh",
        )
    if port is None:
        raise ConflictError(
            f"{vm.name} has no way in for ssh: neither a vsock nor a net of type user",
            hint='give its template a net of type = "user"; v console works without one',
        )
    return by_port(port)


def by_port(port: int) -> list[str]:
    # This also disables a ProxyCommand of the user: ssh uses the first of ProxyJump and ProxyCommand (ssh_config(5)).
    return ["-p", str(port), *option("HostName", "127.0.0.1"), *option("ProxyJump", "none")]


def _identity(vm: Vm, pinned: bool, known: Path) -> list[str]:
    options = {
        "HostKeyAlias": f"{vm.uuid}",
        "UserKnownHostsFile": _path(known),
        "GlobalKnownHostsFile": "/dev/null",
        # Only keys that the guest reported on its own channel; if it reported none, only the first key that is seen.
        "StrictHostKeyChecking": "yes" if pinned else "accept-new",
        "UpdateHostKeys": "no",
    }
    return [word for name, value in options.items() for word in option(name, value)]


def _keys(node: Node, vm: Vm, login: str | None) -> list[Path]:
    """Only our key if the guest is known to have it. Else some keys of the user too: the image may have them, or
    another user in the guest may have them."""
    ours = key_file(node.layout.keys)
    if vm.ready == "guest" and login in (None, vm.login):
        return [ours]
    return [ours, *personal_key_files()[:_MOST_KEYS]]


def option(name: str, value: str) -> tuple[str, str]:
    return "-o", f"{name}={value}"


def _path(path: Path) -> str:
    """Quotes a path as one word of an ssh option (OpenSSH: misc.c, argv_split). % and ${ are escaped: ssh expands
    them (ssh_config(5), TOKENS and ENVIRONMENT VARIABLES)."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return '"' + text.replace("${", f"${{{_DOLLAR}}}{{") + '"'


_DOLLAR = "VIRSHLE_DOLLAR"
"""An environment variable: ssh has no other way to write a dollar before a brace in a path."""


def _environment(words: Sequence[str]) -> tuple[str, ...]:
    shell = any(word.startswith("ProxyCommand=") for word in words)
    dollar = any(_DOLLAR in word for word in words)
    # ssh runs a ProxyCommand with the user's shell, which may have another syntax, or be /usr/sbin/nologin.
    variables = [*(["SHELL=/bin/sh"] if shell else []), *([f"{_DOLLAR}=$"] if dollar else [])]
    return ("env", *variables) if variables else ()


def told_keys(node: Node, vm: Vm) -> list[str]:
    """The host keys that the guest reported on its ready port. Only the guest can write there."""
    try:
        return _HOST_KEY.findall(read_start(node.place(vm.uuid).ready))
    except OSError:
        return []


def pin_steps(node: Node, vm: Vm) -> list[Step]:
    """Writes the reported keys as the only keys that ssh accepts for the VM."""
    file = known_hosts(node.layout.vm(vm.uuid))
    text = "".join(f"{vm.uuid} {key}\n" for key in told_keys(node, vm))
    if not text:
        return []
    with suppress(OSError):
        if read_start(file) == text:
            return []
    return [Write("pin the host keys that the guest reported", file, text)]
