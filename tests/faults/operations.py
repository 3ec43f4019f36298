"""What is done to VMs, and what can go wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.disk import Disk, can_break
from tests.warm.client import Fault
from tests.warm.driver import NOBODY


@dataclass(frozen=True)
class Operation:
    name: str
    words: tuple[str, ...]
    wanted: dict[str, str]
    """What there is in the end: each VM by name, and its state; and the images."""
    before: tuple[tuple[str, ...], ...] = ()
    """The commands after which it is asked for."""

    @property
    def runs(self) -> bool:
        """Whether a VM of its runs before."""
        return any(words[0] == "start" for words in self.before)


BUILT, IMPORTED = "image made", "image other"
"""Among what there is: images that no VM has."""
_BUILD = ("image", "build", "made")
_IMPORT = ("image", "import", "other.raw")
_CREATE, _START, _PAUSE = ("create", "-t", "plain", "web"), ("start", "web"), ("pause", "web")
OPERATIONS = (
    Operation("create", _CREATE, {"web": "stopped"}),
    Operation("create 3", (*_CREATE, "-n", "3"), {f"web-{number}": "stopped" for number in (1, 2, 3)}),
    Operation("start", _START, {"web": "running"}, (_CREATE,)),
    Operation("stop", ("stop", "--force", "--timeout", "0", "web"), {"web": "stopped"}, (_CREATE, _START)),
    Operation("delete", ("delete", "web"), {}, (_CREATE,)),
    Operation("delete running", ("delete", "--force", "web"), {}, (_CREATE, _START)),
    Operation("pause", _PAUSE, {"web": "paused"}, (_CREATE, _START)),
    Operation("image build", _BUILD, {BUILT: "there"}),
    Operation("image gc", ("image", "gc"), {}, (_BUILD,)),
    Operation("image import", _IMPORT, {IMPORTED: "there"}),
    Operation("image delete", ("image", "delete", "other"), {}, (_IMPORT,)),
    Operation("resume", ("resume", "web"), {"web": "running"}, (_CREATE, _START, _PAUSE)),
)

KINDS = (
    "kill before",
    "kill after",
    "Ctrl-C",
    "fails",
    "lies",
    "hangs",
    "no space",
    "read-only",
    "VMM killed",
    "VMM stopped",
    "power cut",
    "I/O error",
)
_ENDS_ALL = ("power cut", "I/O error")
"""After which no VMM runs."""


@dataclass(frozen=True)
class Case:
    operation: Operation
    kind: str
    step: int
    """From 1."""

    def __str__(self) -> str:
        return f"{self.operation.name}, step {self.step}: {self.kind}"

    def accepts(self, states: dict[str, str]) -> bool:
        """Whether that may be there after a second try. A VM whose VMM was killed has crashed until it is started; and
        of several that were to be made, those stay that were whole when nothing could be undone any more."""
        wanted = self.operation.wanted
        if self.kind == "VMM killed" and self.operation.runs:
            return states in (wanted, dict.fromkeys(wanted, "crashed"))
        if self.ends_all and self.operation.name in ("pause", "resume"):
            return states in ({"web": "crashed"}, {"web": "stopped"})
        if (self.kind.startswith("kill") or self.kind in ("read-only", *_ENDS_ALL)) and len(wanted) > 1:
            return states.items() <= wanted.items()
        return states == wanted

    def keeps(self, states: dict[str, str]) -> bool:
        """Whether that may be there when the power was cut after the command had said that it was done. What was
        built can be built again."""
        return {*states} - {BUILT} == {*self.operation.wanted} - {BUILT}

    @property
    def ends_all(self) -> bool:
        """Whether no VMM runs after it."""
        return self.kind in _ENDS_ALL

    def fault(self, disk: Disk, kept: int) -> Fault:
        """`kept`: the process that is not to be touched."""
        vmms = f"pgrep -f '^[^ ]*(qemu-system-|cloud-hypervisor).*{disk.folder}' | grep -vx {kept}"
        signal = f"found=$({vmms}) || exit {NOBODY}; kill"
        action, moment = {
            "kill before": ("kill", "before"),
            "kill after": ("kill", "after"),
            "Ctrl-C": ("interrupt", "before"),
            "fails": ("fail", "before"),
            "lies": ("lie", "before"),
            "hangs": ("hang", "before"),
            "no space": (f"fill:{disk.folder}", "before"),
            "read-only": (f"sh:{disk.read_only}", "before"),
            "VMM killed": (f"sh:{signal} -KILL $found", "before"),
            "VMM stopped": (f"sh:{signal} -STOP $found", "before"),
            "power cut": (f"sh:{disk.cut} && kill -KILL $PPID", "before"),
            "I/O error": (f"sh:{disk.broken}", "before"),
        }[self.kind]
        return action, moment, self.step


def cases(operation: Operation, steps: int) -> Iterator[Case]:
    """All that make a difference. `steps`: how many it has."""
    for kind in KINDS:
        if kind.startswith("VMM") and not (operation.runs or operation.name == "start"):
            continue
        if kind == "I/O error" and not can_break():
            continue
        # The power is cut once more when all is done and said.
        last = steps + (kind == "power cut")
        yield from (Case(operation, kind, step) for step in range(1, last + 1))
