"""An operation that changes the host is first a plan: a list of steps, as data.

    plan = Plan("web", [
        run("make the folder", "mkdir", "-p", folder, undo=[run("remove it", "rmdir", folder)]),
        Write("the VM's definition", folder / "vm.json", text),
        Call("press the power button", Qmp(socket, "system_powerdown")),
        Wait("the guest to power off", Gone(record), timeout=30),
    ])
    with Apply() as apply:
        apply(plan)

Each step shows itself as shell (`step.shell()`), and may name its undo. `Apply` runs plans, also several side by
side (`apply(one, other)`); when a step fails it undoes what was done, newest first, and the error says so; an undo
must therefore be harmless where its step was made by half, or not at all. What is printed by -vvv and --dry-run, what
is run, and the list of places where a test kills virshle are therefore the same list.

Steps pass no values to each other: what can be chosen is chosen before planning, what is known only after a
step is observed by the next phase, which makes a plan of its own.
"""

from virshle.plan.conditions import AnyOf, Condition, Contains, Gone, Greets, GreetsVsock, Replies
from virshle.plan.executor import Apply, followed, uninterrupted
from virshle.plan.progress import Follower, Gauge, Progress, Silent
from virshle.plan.steps import Call, Plan, Run, Step, Wait, Write, run, whole

__all__ = [
    "AnyOf",
    "Apply",
    "Call",
    "Condition",
    "Contains",
    "Follower",
    "Gauge",
    "Gone",
    "Greets",
    "GreetsVsock",
    "Plan",
    "Progress",
    "Replies",
    "Run",
    "Silent",
    "Step",
    "Wait",
    "Write",
    "followed",
    "run",
    "uninterrupted",
    "whole",
]
