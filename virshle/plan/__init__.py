"""An operation that changes the host is first a plan: a list of steps, as data.

    plan = Plan("web", [
        run("make the folder", "mkdir", "-p", folder, undo=[run("remove it", "rmdir", folder)]),
        Write("the VM's definition", folder / "vm.json", text),
        Call("press the power button", Qmp(socket, "system_powerdown")),
        Wait("the guest to power off", Gone(record), timeout=30),
    ])
    with Apply() as apply:
        apply(plan)

Each step can show itself as shell (`step.shell()`), and may have an undo. `Apply` runs plans, also several side by side
(`apply(one, other)`). If a step fails, `Apply` undoes the finished steps, newest first, and the error lists them. The
failed step is undone too, so an undo must be harmless even if its step was only half done or not done at all. One list
of steps is printed by -vvv and --dry-run, is run, and is the list of places where a test kills virshle.

Steps pass no values to each other. Values that can be chosen are chosen before planning. If a value is known only after
a step, the next phase observes it and makes its own plan.
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
