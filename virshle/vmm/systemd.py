"""On a host with systemd, each VMM runs in its own transient unit, so it does not end when another unit ends
(systemd.exec(5), systemd.service(5), systemd-run(1))."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from virshle.errors import ConfigError, HostError, TimedOutError
from virshle.exec import Command, find_program, run
from virshle.exec.process import BEGIN_SECONDS
from virshle.exec.run import signal_name
from virshle.vmm.driver import Machine, Place

_BOOTED = Path("/run/systemd/system")
_DEVICES = ("kvm", "net/tun", "vhost-net", "vhost-vsock", "userfaultfd")
ALREADY = "was already loaded"
"""What systemd-run prints if a unit of that name exists."""
STOP_SECONDS = 90
"""A guest has this long to power off when its unit is stopped, for example at the host's shutdown."""


def systemd_runs() -> bool:
    """True if systemd runs this host and we may start units (sd_booted(3)). Only root may."""
    return os.geteuid() == 0 and _BOOTED.is_dir() and find_program("systemd-run") is not None


def unit_name(name: str) -> str:
    return f"virshle-vm-{name}"


_FORGET = (
    'while [ "$(systemctl show --property=ActiveState --value "$1")" = deactivating ]; do sleep 0.1; done; '
    'systemctl reset-failed "$1"'
)


def forget(unit: str) -> Command:
    """Removes an earlier unit, so that a new unit can have its name. systemd keeps a failed unit with its reason, and a
    unit whose VMM has ended may need a moment until it is inactive."""
    return Command(("sh", "-c", _FORGET, "sh", f"{unit}.service"), timeout=STOP_SECONDS + 30, ok=(0, 1))


def units() -> dict[str, str]:
    """The units of VMs: name, and state as systemd says it (active, failed, ...). Raises HostError."""
    if not systemd_runs():
        return {}
    options = ("--all", "--type=service", "--plain", "--no-legend", "--full")
    lines = run(Command(("systemctl", "list-units", *options, unit_name("*")))).stdout.splitlines()
    found = [line.split() for line in lines]
    # An inactive unit is listed only because another unit names it.
    return {words[0].removesuffix(".service"): words[2] for words in found if words[2:] and words[2] != "inactive"}


def unit_folder(unit: str) -> Path | None:
    """The folder of the VM that a unit runs. None if the unit has no such folder. Raises HostError."""
    show = ("systemctl", "show", "--property=WorkingDirectory", "--value", f"{unit}.service")
    said = run(Command(show)).stdout.strip()
    # An exclamation mark means that the folder may be missing (systemd: src/core/dbus-execute.c).
    return Path(said.removeprefix("!")) if said else None


@dataclass(frozen=True)
class Ended:
    """How the main process of a unit ended. Only one of the two is set."""

    signal: str = ""
    """For example SIGKILL."""
    code: int = 0


def ended(unit: str, folder: Path) -> Ended | None:
    """None if systemd does not know or does not answer, if the process ended well, or if it is another VM's unit. Any
    user may ask."""
    if find_program("systemctl") is None:
        return None
    show = ("systemctl", "show", "--property=WorkingDirectory,ExecMainCode,ExecMainStatus", f"{unit}.service")
    try:
        said = run(Command(show, timeout=_PATIENCE), check=False).stdout
    except (HostError, TimedOutError):
        return None
    told = dict(line.partition("=")[::2] for line in said.splitlines())
    code, status = told.get("ExecMainCode", ""), told.get("ExecMainStatus", "")
    if told.get("WorkingDirectory", "").removeprefix("!") != str(folder) or not status.isdecimal():
        return None
    if code in _BY_SIGNAL:
        return Ended(signal=signal_name(int(status)))
    return Ended(code=int(status)) if status != "0" else None


_PATIENCE = 5
"""Seconds. A list of VMs waits this long for systemd. If systemd hangs, the list shows less."""
_BY_SIGNAL = ("2", "3")
"""CLD_KILLED and CLD_DUMPED (waitid(2)). The third, 1 (CLD_EXITED), comes with an exit code."""


def unit_process(unit: str) -> int | None:
    """The pid of the unit's main process. None if there is no such process. Raises HostError."""
    said = run(Command(("systemctl", "show", "--property=MainPID", "--value", f"{unit}.service"))).stdout.strip()
    return int(said) if said.isdecimal() and int(said) else None


def start_unit(machine: Machine) -> Command:
    """The command returns once the VMM holds the lock on its record, because the unit's ExecStartPost waits for that.

    Raises ConfigError if a folder's name cannot be part of a unit."""
    vm, place, launch = machine.vm, machine.place, machine.launch
    assert launch.unit is not None
    assert launch.user is not None
    properties = [
        "Type=exec",
        f"User={launch.user}",
        f"Group={launch.user}",
        *_end(place),
        "UMask=0077",
        "OOMPolicy=continue",
        "OOMScoreAdjust=-200",
        "TasksMax=infinity",
        "LimitNOFILE=65536",
        "LimitMEMLOCK=infinity",
        f"WorkingDirectory=-{place.folder}",
        f"ExecStartPost=/bin/sh {_quoted(place.script)} began",
        f"TimeoutStartSec={BEGIN_SECONDS}",
        "After=openvswitch-switch.service",
        *_sandbox(machine),
    ]
    return Command(
        (
            "systemd-run",
            f"--unit={launch.unit}",
            f"--description=VM {vm.name}, run by {launch.hypervisor} for virshle",
            *("--slice=virshle.slice", "--no-ask-password", "--quiet"),
            # The script finds its programs in our PATH: on NixOS, systemd's own PATH has no flock and no socat.
            "--setenv=PATH",
            *(f"--property={line}" for line in properties),
            # The shell runs the script: the file system of the state may be mounted noexec (mount(8)).
            *("--", "/bin/sh", str(place.script), "run"),
        ),
        # systemd stops waiting earlier than this, and says why.
        timeout=BEGIN_SECONDS + 30,
        detached=True,
    )


_MOVED = "cd /proc/`printenv MAINPID`/cwd 2>/dev/null && [ -e vmm.sh ] || exit 0; exec /bin/sh ./vmm.sh stop"
"""The working folder of a VMM is its VM's folder, even after that was moved. The line has no dollar sign: systemd 257
writes each one twice into the file of a transient unit, and reads that file at a daemon-reload."""


def _end(place: Place) -> list[str]:
    """A failure of the script that presses the power button must not act like a power cut: systemd waits until the time
    is over.

    Until then, systemd sends no signal that ends a VMM (KillSignal). Then it sends SIGTERM, and the VMM writes its data
    to the disks before it ends. passt gets SIGTERM too, and gets it at once if its VMM has ended (systemd.kill(5):
    mixed, FinalKillSignal).
    """
    return [
        f"ExecStop=-/bin/sh {_quoted(place.script)} stop",
        f'ExecStop=-/bin/sh -c "{_MOVED}"',
        f"TimeoutStopSec={STOP_SECONDS}",
        "TimeoutStopFailureMode=kill",
        "TimeoutStartFailureMode=kill",
        "KillMode=mixed",
        "KillSignal=SIGCONT",
        "FinalKillSignal=SIGTERM",
    ]


def _sandbox(machine: Machine) -> list[str]:
    """The VMM gets no capabilities and few devices. It can only write its own files and cannot see other VMs' files."""
    folder, run = machine.place.folder, machine.place.run
    return [
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "DevicePolicy=closed",
        *(f"DeviceAllow=/dev/{device} rw" for device in _DEVICES if Path("/dev", device).exists()),
        "ProtectSystem=strict",
        "ProtectHome=tmpfs",
        "PrivateTmp=yes",
        f"TemporaryFileSystem={_quoted(folder.parent)}:ro {_quoted(run.parent)}:ro",
        # The dash ignores a missing folder: if a folder was moved, the unit can still be stopped.
        f"BindPaths={_quoted(folder, '-')} {_quoted(run, '-')}",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_VSOCK",
    ]


def _quoted(path: Path, before: str = "") -> str:
    """The path as one quoted word (systemd.syntax(7), "Quoting"; over D-Bus, a % has no special meaning).

    Raises ConfigError for characters that have a special meaning even in quotes: a colon ends the path of a file
    system, a dollar begins a variable of a command."""
    text = str(path)
    if hit := re.search(r"[:$\\\x00-\x1f\x7f]", text):
        raise ConfigError(
            f"a unit of systemd cannot have the path {text!r}: {hit[0]!r} has a special meaning there",
            hint="keep the VMs in another folder: VIRSHLE_STATE_DIR, VIRSHLE_RUN_DIR",
        )
    return f'"{before}' + text.replace('"', r"\"") + '"'
