"""Into the guest: the ssh command of a VM."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from virshle.errors import ConflictError, UsageError
from virshle.exec import exec_into
from virshle.fs import check_known, read_start
from virshle.model.vm import LOGIN, Vm
from virshle.plan import Step, Write
from virshle.service.node import Node, check_owner
from virshle.service.ready import vsock_of
from virshle.store import Entry
from virshle.store.layout import known_hosts
from virshle.userdata import key_file
from virshle.vmm.driver import read_launch

_HOST_KEY = re.compile(r"^X_VIRSHLE_SSH_HOST_KEY=((?:ssh|ecdsa|sk)-[\w@.-]+ [A-Za-z0-9+/=]+)$", re.MULTILINE)


def enter(node: Node, entry: Entry, words: Sequence[str], *, login: str | None = None) -> NoReturn:
    """Becomes ssh: its terminal and its exit code are ours. Raises ConflictError where there is no way in."""
    vm = entry.whole()
    check_owner(entry)
    command = ssh_command(node, vm, words, login=login)
    with node.apply() as apply:
        apply(node.plan(vm, *pin_steps(node, vm)))
        apply.commit()
    exec_into(command)


def ssh_command(node: Node, vm: Vm, words: Sequence[str] = (), *, login: str | None = None) -> tuple[str, ...]:
    """One word is the guest's shell's to read, several are the command and its arguments, as they are.

    Raises ConflictError where the VM does not run or has no way in, UsageError for a login that is no user's name,
    ConfigError for a caller whom ssh does not serve.
    """
    if login is not None and not re.fullmatch(LOGIN, login):
        raise UsageError(f"{login!r} is no user's name", hint="for example: -l root")
    check_known()
    if node.process(vm.uuid) is None:
        raise ConflictError(f"{vm.name} is stopped", hint=f"start it: v start {vm.name} --wait")
    command = words[0] if len(words) == 1 else shlex.join(words)
    return (
        "ssh",
        *_way(node, vm),
        *("-i", str(key_file(node.layout.keys))),
        *_options(vm, bool(told_keys(node, vm)), known_hosts(node.layout.vm(vm.uuid))),
        *("-l", login or vm.login),
        vm.name,
        *(["--", command] if command else []),
    )


def _way(node: Node, vm: Vm) -> list[str]:
    """By the guest's vsock where it has one, which needs no network; else by its loopback port."""
    place = node.place(vm.uuid)
    launch = read_launch(place)
    if way := vsock_of(launch, place):
        # ssh reads % in it (ssh_config(5)).
        return ["-o", f"ProxyCommand={way.shell().replace('%', '%%')}"]
    if launch is None or launch.ssh_port is None:
        raise ConflictError(
            f"{vm.name} has no way in for ssh: neither a vsock nor a net of type user",
            hint='give its template a net of type = "user"; v console needs none',
        )
    return ["-p", str(launch.ssh_port), "-o", "HostName=127.0.0.1"]


def _options(vm: Vm, pinned: bool, known: Path) -> list[str]:
    options = {
        "HostKeyAlias": f"{vm.uuid}",
        # A list of words to ssh, with % for its own names (ssh_config(5)).
        "UserKnownHostsFile": '"' + str(known).replace("%", "%%") + '"',
        "GlobalKnownHostsFile": "/dev/null",
        # Told by the guest on its own channel: strict. Else the first key seen is the one, and no other later.
        "StrictHostKeyChecking": "yes" if pinned else "accept-new",
        "UpdateHostKeys": "no",
        "LogLevel": "ERROR",
    }
    if vm.ready == "guest":
        # It has our key; offering every key of an agent first would be too many tries for the server.
        options["IdentitiesOnly"] = "yes"
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


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
