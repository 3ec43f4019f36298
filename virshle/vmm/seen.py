"""How a VM runs: launch.json says it. If launch.json is lost, the command line of its VMM says it."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from virshle.errors import VirshleError
from virshle.exec.process import recorded, running
from virshle.exec.table import argv_of, unit_of
from virshle.model.names import check_name
from virshle.vmm.ch_config import GUEST_CID
from virshle.vmm.choose import driver_of
from virshle.vmm.cloud_hypervisor import PROGRAM
from virshle.vmm.driver import Driver, Launch, is_port_and_cid, read_launch
from virshle.vmm.place import Place
from virshle.vmm.running import kind_of
from virshle.vmm.systemd import unit_name

_EVENTS = ".events.json"
_WHY = "read from its VMM's command line, because launch.json is lost"


def launch_of(place: Place) -> Launch | None:
    """The choices for the present run, or for the last one if the VM does not run. None if the VM never ran, or if its
    process cannot be seen."""
    noted, last = read_launch(place), recorded(place.record)
    if noted is not None and last is not None and noted.token == last.token:
        return noted
    return _seen(place, last.token if last else "") or noted


def driver_at(place: Place) -> Driver:
    """The driver of the VM that runs there."""
    return driver_of(launch_of(place), place)


def _seen(place: Place, token: str) -> Launch | None:
    with suppress(VirshleError, ValueError, KeyError, OSError):
        process = running(place.record)
        if process is None or process.pid is None:
            return None
        argv = argv_of(process.pid)
        chosen = _BY_KIND[kind_of(argv) or ""](argv)
        check_name(chosen["name"])
        unit = unit_of(process.pid)
        owner = Path(f"/proc/{process.pid}").stat().st_uid
        launch = Launch(
            **{"cid": None, "ssh_port": None, **chosen},
            program=argv[0],
            version="",
            why=_WHY,
            started="",
            token=token,
            unit=unit if unit and unit.startswith(unit_name("")) else None,
            user=pwd.getpwuid(owner).pw_name if owner != os.getuid() else None,
        )
        return launch if is_port_and_cid(launch) else None
    return None


def _of_qemu(argv: Sequence[str]) -> dict[str, Any]:
    """Reads a command line that `virshle.vmm.qemu.arguments` made. Raises KeyError for other command lines."""
    options = dict(pairwise(argv))
    text = "\n".join(argv)
    port = re.search(r"^user,.*,hostfwd=tcp:127\.0\.0\.1:(\d{1,5})-:22$", text, re.MULTILINE)
    cid = re.search(r"^vhost-vsock-pci,guest-cid=(\d{1,10})$", text, re.MULTILINE)
    return {
        "hypervisor": "qemu",
        "name": options["-name"].removeprefix("guest="),
        "accelerator": "kvm" if "accel=kvm" in options["-machine"].split(",") else "tcg",
        "ssh_port": int(port[1]) if port else None,
        "cid": int(cid[1]) if cid else None,
    }


def _of_cloud_hypervisor(argv: Sequence[str]) -> dict[str, Any]:
    """Reads the VM's name from the name of the file of events. The rest was sent to the socket and is not known here.

    Raises KeyError or ValueError for other command lines."""
    name = Path(dict(pairwise(argv))["--event-monitor"]).name
    if not name.endswith(_EVENTS):
        raise ValueError(name)
    return {
        "hypervisor": PROGRAM,
        "name": name.removesuffix(_EVENTS),
        "accelerator": "kvm",
        "cid": GUEST_CID,
    }


_BY_KIND = {"qemu": _of_qemu, PROGRAM: _of_cloud_hypervisor}
