"""What this host can do, each with the line that mends it."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

from virshle.errors import VirshleError
from virshle.model.arch import host_arch
from virshle.nix import find_nix
from virshle.service.host_checks import Check, guarded, host_checks
from virshle.service.node import Node
from virshle.store.change import tidy
from virshle.vmm.account import check_way, vmm_user
from virshle.vmm.driver import read_launch
from virshle.vmm.systemd import failed_units


def examine(node: Node) -> list[Check]:
    return [
        *host_checks(host_arch(), vmm_user(), node.paths.state),
        guarded("nix", lambda: _nix(node), "limited"),
        *_folders(node),
        *_vms(node),
        *_leftovers(node),
        *(Check("configuration", "limited", warning) for warning in node.config.warnings),
    ]


def _nix(node: Node) -> str:
    nix = find_nix(node.paths.state / "nix")
    return f"{'.'.join(map(str, nix.version))}, builds go to {nix.store}"


def _folders(node: Node) -> Iterator[Check]:
    for name, path in (("state", node.paths.state), ("runtime", node.paths.run)):
        here = path
        while not here.exists():
            here = here.parent
        if os.access(here, os.W_OK):
            yield Check(f"{name} folder", "yes", str(path) if here == path else f"{path} (not made yet)")
        else:
            variable = "VIRSHLE_STATE_DIR" if name == "state" else "VIRSHLE_RUN_DIR"
            yield Check(f"{name} folder", "no", f"{here} may not be written", f"export {variable}=A_FOLDER_OF_YOURS")
        if user := vmm_user():
            yield guarded(f"way to the {name} folder", functools.partial(_way, user, path), "no")


def _way(user: str, path: Path) -> str:
    check_way(user, path, [])
    return f"{user} may pass"


def _vms(node: Node) -> Iterator[Check]:
    entries = node.store.entries()
    broken = 0
    for entry in entries:
        try:
            entry.whole()
        except VirshleError as error:
            broken += 1
            yield Check(f"VM {entry.name}", "no", error.message, error.hint)
    running = sum(node.process(entry.uuid) is not None for entry in entries)
    yield Check("VMs", "yes", f"{len(entries) - broken} whole, {running} of them running")


def _leftovers(node: Node) -> Iterator[Check]:
    left, locks = tidy(node.store)
    for lock in locks:
        lock.release()
    units = {launch.unit for entry in node.store.entries() if (launch := read_launch(node.place(entry.uuid)))}
    for unit in failed_units():
        if unit not in units:
            found = f"{unit} failed, and is of no VM's last run"
            yield Check("leftover", "limited", found, f"systemctl reset-failed {unit}")
    for step in [*left.links.steps, *(step for plan in left.folders for step in plan.steps)]:
        yield Check("leftover", "limited", f"{step.why}: {step.shell()}", "the next command that changes VMs does it")
