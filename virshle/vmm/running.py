"""Finds the processes that run VMs of this state folder, whoever started them. virshle knows them by their program and
by the state's folders in their arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from virshle.config.paths import Paths
from virshle.exec.table import parent_of, processes
from virshle.model.names import is_uuid, run_name

_PROGRAMS = {
    "qemu": re.compile(r"\.?qemu-system-.+"),
    "cloud-hypervisor": re.compile(r"\.?cloud-hypervisor\b.*"),
    # passt becomes passt.avx2 if the processor has AVX2.
    "passt": re.compile(r"\.?passt\b.*"),
}
SCRIPT = "vmm.sh"


@dataclass(frozen=True)
class VmProcess:
    pid: int
    parent: int | None
    kind: str
    """qemu, cloud-hypervisor, passt or vmm.sh."""
    run: str
    """The name of its VM's runtime folder, which is made from the VM's uuid. Empty if its arguments name no VM."""
    uuid: UUID | None = None
    """The VM's uuid, if the arguments name the VM's folder in this state folder."""

    @property
    def is_vmm(self) -> bool:
        return self.kind in ("qemu", "cloud-hypervisor")

    @property
    def is_run(self) -> bool:
        """True for a VMM, and for the script that becomes a VMM."""
        return self.is_vmm or self.kind == SCRIPT


def vm_processes(paths: Paths) -> list[VmProcess]:
    """All processes of known programs that have one of our folders in their arguments."""
    ours = _ours(paths)
    found = []
    for process in processes():
        kind = kind_of(process.argv)
        # In QEMU's options, a comma in a path is written twice.
        hits = list(ours.finditer(" ".join(process.argv).replace(",,", ","))) if kind else []
        if kind and hits:
            names = [hit["vm"] for hit in hits if hit["vm"]]
            run = run_name(names[0]) if names else ""
            uuid = next((UUID(name) for name in names if len(name) == 36 and is_uuid(name)), None)
            found.append(VmProcess(process.pid, parent_of(process.pid), kind, run, uuid))
    return found


def kind_of(argv: Sequence[str]) -> str | None:
    """The kind of the program, if it is one that runs a VM or helps to run it."""
    if not argv:
        return None
    name = Path(argv[0]).name
    if len(argv) == 3 and Path(argv[1]).name == SCRIPT and argv[2] == "run":
        return SCRIPT
    return next((kind for kind, program in _PROGRAMS.items() if program.fullmatch(name)), None)


def _ours(paths: Paths) -> re.Pattern[str]:
    """Matches our folders. The group `vm` is the VM's uuid or the name of its runtime folder."""
    roots = {str(root) for path in (paths.state, paths.run) for root in (path, path.resolve())}
    either = "|".join(map(re.escape, sorted(roots, key=len, reverse=True)))
    return re.compile(rf"(?<![\w.-])(?:{either})/(?:vm/(?P<vm>[0-9a-f][0-9a-f-]{{11,35}}))?")
