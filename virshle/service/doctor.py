"""What this host can do, and the problems of its VMs, each with the command that fixes it."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

from virshle.errors import VirshleError
from virshle.fs import check_folder, check_known
from virshle.model.arch import host_arch
from virshle.nix import find_nix
from virshle.service.check import check
from virshle.service.host_checks import Check, going_on, guarded, host_checks
from virshle.service.image import dead_root
from virshle.service.node import Node
from virshle.vmm.account import check_way, vmm_user


def examine(node: Node) -> list[Check]:
    """All checks. If something cannot be checked, one line says so."""
    return [
        *host_checks(host_arch(), vmm_user(), node.paths.state),
        *going_on("nix", lambda: [guarded("nix", lambda: _nix(node), "limited")]),
        *going_on("user", lambda: [guarded("user", _known, "no")]),
        *going_on("folders", lambda: _folders(node)),
        *going_on("sockets", lambda: [guarded("sockets", lambda: _sockets(node), "no")]),
        *going_on("VMs", lambda: _state(node), "state"),
        *going_on("configuration", lambda: [*_configuration(node), *_images(node)]),
    ]


def _configuration(node: Node) -> Iterator[Check]:
    for warning in node.config.warnings:
        yield Check("configuration", "limited", warning)


def _nix(node: Node) -> str:
    nix = find_nix(node.paths.state / "nix")
    return f"{'.'.join(map(str, nix.version))}, builds go to {nix.store}"


def _folders(node: Node) -> Iterator[Check]:
    for name, path in (("state", node.paths.state), ("runtime", node.paths.run)):
        here, variable = path, "VIRSHLE_STATE_DIR" if name == "state" else "VIRSHLE_RUN_DIR"
        while not os.path.lexists(here):
            here = here.parent
        try:
            check_folder(path, variable)
        except VirshleError as error:
            yield Check(f"{name} folder", "no", error.message, error.hint)
            continue
        if os.access(here, os.W_OK):
            yield Check(f"{name} folder", "yes", str(path) if here == path else f"{path} (does not exist yet)")
        else:
            yield Check(f"{name} folder", "no", f"you may not write to {here}", f"export {variable}=A_FOLDER_OF_YOURS")
        if user := vmm_user():
            yield guarded(f"way to the {name} folder", functools.partial(_way, user, path), "no")


def _sockets(node: Node) -> str:
    node.layout.check_sockets()
    return f"their paths in {node.layout.runs} are short enough"


def _known() -> str:
    check_known()
    return "the system knows this user, as Nix and ssh require"


def _way(user: str, path: Path) -> str:
    check_way(user, path, [])
    return f"{user} may pass"


def _images(node: Node) -> Iterator[Check]:
    for image in node.config.images.values():
        try:
            root = None if image.path is not None else dead_root(node, image)
        except VirshleError as error:
            yield Check(f"image {image.name}", "limited", error.message, error.hint, "state")
            continue
        if root is not None:
            what = "Nix may delete it: the folder of its link was moved, and Nix does not know the new place"
            yield Check(f"image {image.name}", "limited", what, root.shell(), "state")


def _state(node: Node) -> Iterator[Check]:
    report = check(node)
    for one in report.violations:
        yield Check(one.subject, "no", one.what, one.remedy, "state")
    for one in [*report.leftovers, *report.large]:
        yield Check(one.subject, "limited", one.what, one.remedy, "state")
    yield Check("VMs", "yes", f"{report.whole} whole, {report.running} of them running", area="state")
