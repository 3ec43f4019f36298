"""The processes that run VMs of this state, whoever began them: known by their program and by our folders among their
arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from virshle.config.paths import Paths
from virshle.exec.table import parent_of, processes

_PROGRAMS = {
    "qemu": re.compile(r"\.?qemu-system-.+"),
    "cloud-hypervisor": re.compile(r"\.?cloud-hypervisor\b.*"),
    # It becomes passt.avx2 where the processor has that.
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
    """The name of its VM's runtime folder, which follows from the VM's uuid; empty where it names no VM."""

    @property
    def is_vmm(self) -> bool:
        return self.kind in ("qemu", "cloud-hypervisor")


def vm_processes(paths: Paths) -> list[VmProcess]:
    """Each with one of our folders among its arguments."""
    ours = _ours(paths)
    found = []
    for process in processes():
        kind = _kind(process.argv)
        # QEMU's options double a comma that is in a path.
        hits = list(ours.finditer(" ".join(process.argv).replace(",,", ","))) if kind else []
        if kind and hits:
            run = next((hit["vm"] for hit in hits if hit["vm"]), "").replace("-", "")[:12]
            found.append(VmProcess(process.pid, parent_of(process.pid), kind, run))
    return found


def _kind(argv: Sequence[str]) -> str | None:
    name = Path(argv[0]).name
    if len(argv) == 3 and Path(argv[1]).name == SCRIPT and argv[2] == "run":
        return SCRIPT
    return next((kind for kind, program in _PROGRAMS.items() if program.fullmatch(name)), None)


def _ours(paths: Paths) -> re.Pattern[str]:
    """`vm`: the uuid or the runtime folder's name of the VM whose folder it is."""
    roots = {str(root) for path in (paths.state, paths.run) for root in (path, path.resolve())}
    either = "|".join(map(re.escape, sorted(roots, key=len, reverse=True)))
    return re.compile(rf"(?<![\w.-])(?:{either})/(?:vm/(?P<vm>[0-9a-f][0-9a-f-]{{11,35}}))?")
