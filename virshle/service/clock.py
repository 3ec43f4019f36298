"""A guest's clock after a pause. Measured: on emulated QEMU the clock is then behind by the length of the pause; on
cloud-hypervisor v53 (kvm-clock) it is not. The guest itself may not correct it soon:
chrony steps a clock only when chrony starts (chrony.conf(5), makestep)."""

from __future__ import annotations

import time

from virshle import log
from virshle.errors import VirshleError
from virshle.plan import run
from virshle.service.node import Node
from virshle.service.ssh import pin_steps, ssh_command
from virshle.store import Entry

_SECONDS = 8.0
"""For the ssh login and the command; a guest may be slow."""


def set_clock(node: Node, entry: Entry) -> None:
    """Sets it by ssh. If the guest does not allow that, a note says so."""
    if node.dry_run is not None:
        node.dry_run(f"# then: set the clock of {entry.name} by ssh, if it is behind")
        return
    try:
        vm = entry.whole()
        words = ssh_command(node, vm, [_script(int(time.time()))], options=["-o", "BatchMode=yes"])
        with node.apply() as apply:
            apply(node.plan(vm, *pin_steps(node, vm), run("set its clock", *words, timeout=_SECONDS)))
            apply.commit()
    except VirshleError as error:
        log.info(error.message)
        log.note(f"the clock of {entry.name} could not be set: it may be behind by the length of the pause")


def _script(now: int) -> str:
    """A shell command that sets the clock forward, never back. 1 s of difference is ignored: the command itself takes
    time to arrive."""
    return f"[ $(({now} - $(date +%s))) -le 1 ] || date -s @{now} >/dev/null 2>&1 || sudo -n date -s @{now} >/dev/null"
