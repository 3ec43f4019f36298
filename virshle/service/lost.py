"""VMs that something still carries, a process say, though their folder is not where it belongs; and what to do about
whatever may run a guest. No line that is made here cuts a power or removes a disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import UUID

from virshle.exec.process import held_record
from virshle.model.names import run_name
from virshle.store import Layout
from virshle.store.astray import move_back
from virshle.vmm.choose import listening
from virshle.vmm.place import Place
from virshle.vmm.running import VmProcess

_RECORD = Place(Path(), Path()).record.name
_RECORDS = (_RECORD, f"{_RECORD} (deleted)")
"""As the link of a descriptor has it (proc_pid_fd(5))."""


def lost_vms(
    layout: Layout, there: Iterable[UUID], astray: Iterable[UUID], processes: Sequence[VmProcess]
) -> dict[str, str]:
    """What to do about each, by the name of its runtime folder. Empty where no more is to be said: of one whose folder
    was renamed the folder itself is told, and one of another state folder is not ours to judge. `there`: VMs whose
    folder is where it belongs; `astray`: those whose folder was renamed."""
    known = {run_name(uuid) for uuid in there}
    found = dict.fromkeys((run_name(uuid) for uuid in astray), "")
    for process in processes:
        if process.is_run and process.run not in known | found.keys():
            remedy = _remedy(layout, process)
            if remedy is not None:
                found[process.run] = remedy
    return found


def _back(folder: Path, home: Path) -> str:
    return f"its VM's folder was moved; move it back: {move_back(folder, home)}"


def _remedy(layout: Layout, process: VmProcess) -> str | None:
    """As the record tells that its VMM has open. None where there is no such VM."""
    record = held_record(process.pid)
    if record and record[0].name not in _RECORDS:
        record = None  # a VMM that was started by hand has another file there
    folder = _folder(layout, *record) if record else None
    if process.uuid is None:
        return "" if folder else None
    home = layout.vm(process.uuid)
    if folder:
        return _back(folder, home)
    if record and record[1].st_nlink:
        search = f"find / -name {record[0].name} -inum {record[1].st_ino}"
        return f"its VM's folder was moved; look for it ({search}), and move it back to {home}"
    return shut_down(layout, process)


def _folder(layout: Layout, record: Path, status: os.stat_result) -> Path | None:
    """Where that record is. Its path is that of the VMM's own mounts if it has such (systemd.exec(5), BindPaths=)."""
    beside = [path / record.name for path in layout.vms.iterdir()] if layout.vms.is_dir() else []
    for path in (record, *beside):
        try:
            if os.path.samestat(path.lstat(), status):
                return path.parent
        except OSError:
            continue
    return None


def shut_down(layout: Layout, process: VmProcess) -> str:
    """How the guest is asked to end whose VMM is no VM's, or has what it should not have."""
    # Its sockets are all that matters here.
    place = Place(layout.vms, layout.runs / process.run)
    driver = listening(place) if process.run else None
    if driver is None:
        return f"shut its guest down from inside; ps -wwfp {process.pid} shows how it runs"
    return f"shut its guest down by its power button: {driver.power_button(place, 10).shell()}"


def may_run(run: str, processes: Sequence[VmProcess]) -> bool:
    """Whether a guest may run with that runtime folder."""
    return any(process.is_vmm and process.run == run for process in processes)
