"""What is done to VMs, and what can go wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.warm.client import Fault


@dataclass(frozen=True)
class Operation:
    name: str
    words: tuple[str, ...]
    wanted: dict[str, str]
    """What there is in the end: each VM by name, and its state."""
    before: tuple[tuple[str, ...], ...] = ()
    """The commands after which it is asked for."""

    @property
    def runs(self) -> bool:
        """Whether a VM of its runs before."""
        return any(words[0] == "start" for words in self.before)


_CREATE, _START, _PAUSE = ("create", "-t", "plain", "web"), ("start", "web"), ("pause", "web")
OPERATIONS = (
    Operation("create", _CREATE, {"web": "stopped"}),
    Operation("create 3", (*_CREATE, "-n", "3"), {f"web-{number}": "stopped" for number in (1, 2, 3)}),
    Operation("start", _START, {"web": "running"}, (_CREATE,)),
    Operation("stop", ("stop", "--force", "--timeout", "0", "web"), {"web": "stopped"}, (_CREATE, _START)),
    Operation("delete", ("delete", "web"), {}, (_CREATE,)),
    Operation("delete running", ("delete", "--force", "web"), {}, (_CREATE, _START)),
    Operation("pause", _PAUSE, {"web": "paused"}, (_CREATE, _START)),
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
)


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
        if (self.kind.startswith("kill") or self.kind == "read-only") and len(wanted) > 1:
            return states.items() <= wanted.items()
        return states == wanted

    def fault(self, state: str, vmms: str) -> Fault:
        """`state`: the folder of a file system of its own; `vmms`: what the arguments of the VM's VMM have in them."""
        action, moment = {
            "kill before": ("kill", "before"),
            "kill after": ("kill", "after"),
            "Ctrl-C": ("interrupt", "before"),
            "fails": ("fail", "before"),
            "lies": ("lie", "before"),
            "hangs": ("hang", "before"),
            "no space": (f"fill:{state}", "before"),
            # For who opens anything from now on; what a VMM has open for writing it keeps.
            "read-only": (f"sh:mount --bind {state} {state} && mount -o remount,bind,ro {state}", "before"),
            "VMM killed": (f"sh:pkill -KILL -f {vmms}; true", "before"),
            "VMM stopped": (f"sh:pkill -STOP -f {vmms}; true", "before"),
        }[self.kind]
        return action, moment, self.step


def cases(operation: Operation, steps: int) -> Iterator[Case]:
    """All that make a difference. `steps`: how many it has."""
    for kind in KINDS:
        if kind.startswith("VMM") and not (operation.runs or operation.name == "start"):
            continue
        yield from (Case(operation, kind, step) for step in range(1, steps + 1))
