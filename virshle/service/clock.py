"""A guest's clock after a pause. Tried: a guest of QEMU by emulation is behind by as long as it stood still, one of
cloud-hypervisor v53 (kvm-clock) is not. Nothing in a guest may mend it soon: chrony steps a clock only when it begins
(chrony.conf(5), makestep)."""

from __future__ import annotations

import time

from virshle import log
from virshle.errors import VirshleError
from virshle.plan import run
from virshle.service.node import Node
from virshle.service.ssh import pin_steps, ssh_command
from virshle.store import Entry

_SECONDS = 8.0
"""Which a guest gets to take it: it is entered by ssh, and may be slow."""


def set_clock(node: Node, entry: Entry) -> None:
    """By ssh, as far as its guest lets us; where it does not, that is said."""
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
        log.note(f"the clock of {entry.name} could not be set: it is behind by as long as the VM was paused")


def _script(now: int) -> str:
    """Never back: a second or two go by on the way."""
    return f"[ $(({now} - $(date +%s))) -le 1 ] || date -s @{now} >/dev/null 2>&1 || sudo -n date -s @{now} >/dev/null"
