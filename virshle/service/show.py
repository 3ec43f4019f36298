"""Lists and details of VMs. It reads, and changes nothing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from virshle.errors import HostError
from virshle.exec.process import recorded, running
from virshle.fs import read_end
from virshle.model.names import check_file_name
from virshle.service.files import lack
from virshle.service.node import Node
from virshle.store import Entry
from virshle.store.layout import command_log, image_link
from virshle.vmm.place import Place

if TYPE_CHECKING:
    from virshle.vmm.driver import Driver, Launch, State


@dataclass(frozen=True)
class Row:
    """A VM as `v ls` shows it. `memory` in bytes. For a broken VM, values that are not known are None."""

    id: int | None
    name: str
    state: State
    vcpu: int | None
    memory: int | None
    template: str | None
    image: str | None
    outdated: bool
    """True if its image has been built again since, with another result."""
    ssh: str | None
    uuid: str
    created: str | None
    account: str | None
    problem: str | None


# Drivers are imported only if needed: if no VM runs, their import takes as long as the rest of `v ls`.

_Look: TypeAlias = "tuple[State, Launch | None, str]"
"""A VM's state, the launch of its current run or of the run that crashed, and its problem, or an empty text."""


def state_of(node: Node, entry: Entry) -> State:
    """The process shows if the VM runs; the VMM says in which state."""
    return _look(node, entry)[0]


def _look(node: Node, entry: Entry) -> _Look:
    return _resting(node, entry) or _running(node, entry)


def _running(node: Node, entry: Entry) -> _Look:
    place = node.place(entry.uuid)
    launch = _launch(place)
    told = _driver(launch, place).state(place, launch)
    if entry.summary is None:
        return told.state, launch, f"broken, and it runs: {entry.problem}"
    return told.state, launch, entry.problem or told.about(entry.name)


def _resting(node: Node, entry: Entry) -> _Look | None:
    """None for a VM that runs."""
    place = node.place(entry.uuid)
    record = place.record
    try:
        if running(record) is not None:
            return None
    except HostError as error:
        return "unknown", None, error.message
    if entry.summary is None:
        return "broken", None, entry.problem
    problem = entry.problem or _cannot_start(entry)
    if not record.exists():
        return "stopped", None, problem
    last, launch = recorded(record), _launch(place)
    if launch is None or last is None or last.token != launch.token or _driver(launch, place).ended_well(place, launch):
        return "stopped", None, problem
    if not last.this_boot:
        return "stopped", None, problem or "the host went down while it ran"
    return "crashed", launch, problem or _how_it_died(place, launch)


def _cannot_start(entry: Entry) -> str:
    """What `start` would say about the files of the VM."""
    assert entry.summary is not None
    why = lack(entry.folder, entry.summary.disks, entry.summary.boot)
    return f"cannot start: {why}" if why else ""


def _launch(place: Place) -> Launch | None:
    from virshle.vmm.seen import launch_of

    return launch_of(place)


def _driver(launch: Launch | None, place: Place) -> Driver:
    from virshle.vmm.choose import driver_of

    return driver_of(launch, place)


def _how_it_died(place: Place, launch: Launch) -> str:
    """systemd knows the signal. The last line of the VMM's log may be older and about something else: it is not
    called the reason."""
    from virshle.vmm.systemd import ended

    end = ended(launch.unit, place.folder) if launch.unit else None
    if end is not None and end.signal == "SIGKILL":
        # SIGKILL leaves no message in the VMM's log.
        return (
            "its VMM was killed by SIGKILL: by a user, or by the kernel because memory was short "
            f"(journalctl -u {launch.unit} says which)"
        )
    how = "died"
    if end is not None:
        how = f"was killed by {end.signal}" if end.signal else f"ended with exit code {end.code}"
    last = _last_lines(place, 1)
    return f"its VMM {how}; its log ends with: {last[0]}" if last else f"its VMM {how} and wrote no message"


def _last_lines(place: Place, most: int) -> list[str]:
    """The last lines that the VMM wrote in its last run."""
    with suppress(OSError):
        said = read_end(place.vmm_log).rpartition(place.run_began)[2]
        return said.replace("\r", "").splitlines()[1:][-most:]
    return []


def rows(node: Node, entries: Sequence[Entry]) -> list[Row]:
    """Asks the VMMs of all running VMs at the same time: several VMMs that do not answer cost one second, not one
    each."""
    looks = [_resting(node, entry) for entry in entries]
    answers = iter(_ask(node, [entry for entry, look in zip(entries, looks, strict=True) if look is None]))
    now = _images_now(node, entries)
    return [_row(entry, look or next(answers), now) for entry, look in zip(entries, looks, strict=True)]


def _images_now(node: Node, entries: Sequence[Entry]) -> dict[str, str]:
    """The store paths of the images of these VMs, without images that are not built."""
    found = {}
    for name in {entry.summary.image for entry in entries if entry.summary and entry.summary.image}:
        with suppress(OSError, ValueError):
            found[name] = str(image_link(node.layout.image(check_file_name(name))).readlink())
    return found


def _ask(node: Node, entries: Sequence[Entry]) -> list[_Look]:
    if len(entries) < 2:
        return [_running(node, entry) for entry in entries]
    # Slow to import: it takes longer than a list of a hundred VMs that do not run.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=32) as pool:
        return list(pool.map(lambda entry: _running(node, entry), entries))


def row(node: Node, entry: Entry) -> Row:
    return _row(entry, _look(node, entry), _images_now(node, [entry]))


def _row(entry: Entry, look: _Look, now: Mapping[str, str]) -> Row:
    state, launch, problem = look
    known, uuid = entry.summary, str(entry.uuid)
    if known is None:
        return Row(None, entry.name, state, None, None, None, None, False, None, uuid, None, None, problem)
    return Row(
        id=known.id,
        name=known.name,
        state=state,
        vcpu=known.vcpu,
        memory=known.memory,
        template=known.template,
        image=known.image or known.source,
        outdated=bool(known.image and known.store_path and now.get(known.image, known.store_path) != known.store_path),
        ssh=_ssh(launch) if launch and state != "crashed" else None,
        uuid=uuid,
        created=known.created,
        account=known.account,
        problem=problem or None,
    )


def _ssh(launch: Launch) -> str | None:
    if launch.ssh_port:
        return f"127.0.0.1:{launch.ssh_port}"
    return "vsock" if launch.cid is not None else None


def details(node: Node, entry: Entry) -> dict[str, Any]:
    """Everything that is known about one VM: its definition, its files, and how it runs."""
    look = _look(node, entry)
    state, launch, _ = look
    shown = _row(entry, look, _images_now(node, [entry]))
    found: dict[str, Any] = {key: value for key, value in vars(shown).items() if value is not None}
    found["folder"] = str(entry.folder)
    if entry.summary is not None:
        found |= _defined(entry)
    if launch:
        process, place = node.process(entry.uuid), node.place(entry.uuid)
        if state == "crashed":
            found["log"] = _last_lines(place, 12)
        found["run"] = {
            **{key: value for key, value in vars(launch).items() if value not in (None, "")},
            "pid": process.pid if process else None,
            "folder": str(place.run),
        }
    return found


def _defined(entry: Entry) -> dict[str, Any]:
    """What its vm.json says."""
    vm, found = entry.whole(), dict[str, Any]()
    found["disks"] = [
        {"name": disk.name, "file": str(entry.folder / disk.file), "size": disk.size} for disk in vm.disks
    ]
    found["nets"] = [{"name": net.name, "type": net.type, "mac": net.mac} for net in vm.nets]
    found["boot"] = vm.boot.model_dump()
    found["origin"] = vm.origin.model_dump(exclude_none=True)
    if vm.origin.rebuild:
        found["rebuild"] = shlex.join(vm.origin.rebuild)
    found["login"] = vm.login
    if vm.users:
        found["users"] = [user.name for user in vm.users]
    if vm.cloud_config is not None:
        found["cloud_config"] = vm.cloud_config.splitlines()
    found["ready"] = vm.ready
    found["hypervisor"] = vm.hypervisor
    return found


def emulated(launch: Launch | None) -> str:
    """What software emulation means for the user; empty if the hardware runs the guest."""
    if launch is None or launch.accelerator == "kvm":
        return ""
    return f"software emulation here, many times slower than by hardware ({launch.why})"


def log_file(node: Node, entry: Entry, kind: str) -> Path:
    """`kind`: console, vmm or commands."""
    place = node.place(entry.uuid)
    return {"console": place.console_log, "vmm": place.vmm_log, "commands": command_log(entry.folder)}[kind]
