"""What there is: lists and details, read and never changed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virshle.service.node import Node
from virshle.store import Entry
from virshle.store.layout import command_log, console_log, vmm_log
from virshle.vmm.choose import driver_of
from virshle.vmm.driver import Launch, State, read_launch


@dataclass(frozen=True)
class Row:
    """A VM as `v ls` shows it. `memory` in bytes; what a broken one does not say is None."""

    id: int | None
    name: str
    state: State
    vcpu: int | None
    memory: int | None
    template: str | None
    image: str | None
    ssh: str | None
    uuid: str
    created: str | None
    account: str | None
    problem: str | None


def state_of(node: Node, entry: Entry) -> State:
    """Its process says whether it runs, the VMM in which state."""
    if entry.summary is None:
        return "broken"
    if node.process(entry.uuid) is None:
        return "stopped"
    run = node.layout.run(entry.uuid)
    return driver_of(read_launch(run)).state(run)


def rows(node: Node, entries: Sequence[Entry]) -> list[Row]:
    """All at once: a VMM that does not answer costs its second only once."""
    if len(entries) < 2:
        return [row(node, entry) for entry in entries]
    with ThreadPoolExecutor(max_workers=32) as pool:
        return list(pool.map(lambda entry: row(node, entry), entries))


def row(node: Node, entry: Entry) -> Row:
    known, state = entry.summary, state_of(node, entry)
    launch = read_launch(node.layout.run(entry.uuid)) if state in ("running", "paused", "unknown") else None
    ssh = f"127.0.0.1:{launch.ssh_port}" if launch and launch.ssh_port else None
    uuid = str(entry.uuid)
    if known is None:
        return Row(None, entry.name, state, None, None, None, None, ssh, uuid, None, None, entry.problem)
    return Row(
        id=known.id,
        name=known.name,
        state=state,
        vcpu=known.vcpu,
        memory=known.memory,
        template=known.template,
        image=known.image or known.source,
        ssh=ssh,
        uuid=uuid,
        created=known.created,
        account=known.account,
        problem=entry.problem or None,
    )


def details(node: Node, entry: Entry) -> dict[str, Any]:
    """All that is known of one VM: its definition, its files, and how it runs."""
    shown = row(node, entry)
    launch = read_launch(node.layout.run(entry.uuid)) if shown.ssh or shown.state == "running" else None
    found: dict[str, Any] = {key: value for key, value in vars(shown).items() if value is not None}
    found["folder"] = str(entry.folder)
    if entry.summary is None:
        return found
    vm = entry.whole()
    found["disks"] = [
        {"name": disk.name, "file": str(entry.folder / disk.file), "size": disk.size} for disk in vm.disks
    ]
    found["nets"] = [{"name": net.name, "type": net.type, "mac": net.mac} for net in vm.nets]
    found["boot"] = vm.boot.model_dump()
    found["origin"] = vm.origin.model_dump(exclude_none=True)
    found["login"] = vm.login
    found["ready"] = vm.ready
    found["hypervisor"] = vm.hypervisor
    if launch:
        process = node.process(entry.uuid)
        found["run"] = {
            **{key: value for key, value in vars(launch).items() if value is not None},
            "pid": process.pid if process else None,
            "folder": str(node.layout.run(entry.uuid)),
        }
    return found


def emulated(launch: Launch | None) -> str:
    """What to expect of software emulation; empty where the hardware runs the guest."""
    if launch is None or launch.accelerator == "kvm":
        return ""
    return f"software emulation here, many times slower than by hardware ({launch.why})"


LOGS = {"console": console_log, "commands": command_log, "vmm": vmm_log}


def log_file(entry: Entry, kind: str) -> Path:
    return LOGS[kind](entry.folder)
