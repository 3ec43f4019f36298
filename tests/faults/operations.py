"""What is done to VMs, and what can go wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.faults.disk import Disk, can_break
from tests.warm.client import Fault
from tests.warm.driver import NOBODY

States = dict[str, str]
"""What there is: each VM by name, and its state; and the images."""


@dataclass(frozen=True)
class Operation:
    name: str
    words: tuple[str, ...]
    wanted: States
    """What there is in the end."""
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


_COMMITS = ("commit: ", "build image ")
"""Steps by which something comes or goes."""


@dataclass(frozen=True)
class End:
    """What became of a command that a fault was made to."""

    before: States
    after: States
    code: int
    begun: int
    """Of how many VMs or images the coming or going was begun when nothing could be undone any more, or at all."""
    ended: int
    """And of how many it was over when the fault was made."""


@dataclass(frozen=True)
class Case:
    operation: Operation
    kind: str
    step: int
    """From 1."""

    def __str__(self) -> str:
        return f"{self.operation.name}, step {self.step}: {self.kind}"

    def end(self, before: States, after: States, code: int, steps: Sequence[str]) -> End:
        """`after`: when the fault is taken away. `steps`: what each was for that the command began."""
        known = steps if self.kind == "kill after" or not self._for_good else steps[: self.step - 1]
        begun = sum(why.startswith(_COMMITS) for why in known)
        # They are made side by side: while another is begun it is not certain of any that it is over.
        over = steps[: self.step]
        if self.kind != "kill after" and over and over[-1].startswith(_COMMITS):
            over = ()
        ended = sum(why.startswith(_COMMITS) for why in over)
        return End(before, after, code, begun, ended)

    def leaves(self, end: End) -> bool:
        """Whether that may be there when the command is over: all that it was asked for, or nothing of it. Of several
        VMs some, where nothing could be undone any more; never one before its commit."""
        came, asked = self._changed(end.before, end.after), self._changed(end.before, self.operation.wanted)
        if end.code == 0:
            told = end.after == self.operation.wanted or self.ends_all or self.kind.startswith("VMM")
            return told and came == asked
        if not self._for_good:
            return came in (set(), asked) and (end.begun > 0 or not came)
        least = 0 if self.ends_all else end.ended
        return came <= asked and least <= len(came) <= end.begun

    def accepts(self, end: End, states: States, code: int) -> bool:
        """Whether a second try may end so: it succeeds, or is refused as what came or went by the first is as it was
        to be. A VM that is to be paused, or to go on, has crashed where its VMM was killed."""
        over = self.ends_all or (self.kind == "VMM killed" and end.after == {"web": "crashed"})
        if over and self.operation.name in ("pause", "resume"):
            return code == 5 and states == end.after and states in ({"web": "crashed"}, {"web": "stopped"})
        if code == 0:
            return states == self.operation.wanted
        then, now = (self._changed(end.before, one) for one in (end.after, states))
        asked = self._changed(end.before, self.operation.wanted)
        # A command that a killed one left behind may have ended since.
        same = now == then or (self._for_good and then <= now and len(now) <= end.begun)
        kept = now == asked or (self._for_good and end.code != 0)
        return code in (4, 5) and bool(now) and same and kept and states.items() <= self.operation.wanted.items()

    def _changed(self, before: States, after: States) -> set[str]:
        """The names that came or went. What was built can be built again, and need not outlast the host's power."""
        return ({*before} ^ {*after}) - ({BUILT} if self.ends_all else set())

    @property
    def _for_good(self) -> bool:
        """Whether nothing can be undone after it."""
        return self.ends_all or self.kind.startswith("kill") or self.kind == "read-only"

    @property
    def codes(self) -> tuple[int, ...]:
        """With which a command may end that is not killed."""
        others = {
            "Ctrl-C": (0, 130),
            "VMM killed": (0, 5, 6, 8),
            "VMM stopped": (0, 6, 8),
            "I/O error": (0, 3, 4, 5, 6, 8),
        }
        return others.get(self.kind, (0, 3, 6, 8))

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
