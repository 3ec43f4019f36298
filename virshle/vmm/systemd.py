"""Where systemd runs, a VMM is a transient unit of its own, and no other unit's end is its end (systemd.exec(5),
systemd.service(5), systemd-run(1))."""

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
"""What systemd-run says where there is a unit of that name."""
STOP_SECONDS = 90
"""How long a guest gets to power off when its unit is stopped, at the host's shutdown say."""


def systemd_runs() -> bool:
    """Whether systemd is there and may be asked by us to run units (sd_booted(3); only root may)."""
    return os.geteuid() == 0 and _BOOTED.is_dir() and find_program("systemd-run") is not None


def unit_name(name: str) -> str:
    return f"virshle-vm-{name}"


_FORGET = (
    'while [ "$(systemctl show --property=ActiveState --value "$1")" = deactivating ]; do sleep 0.1; done; '
    'systemctl reset-failed "$1"'
)


def forget(unit: str) -> Command:
    """No unit can be made of its name before: one that failed is kept by systemd, with its reason, and one whose VMM is
    gone may need a moment to be over."""
    return Command(("sh", "-c", _FORGET, "sh", f"{unit}.service"), timeout=STOP_SECONDS + 30, ok=(0, 1))


def units() -> dict[str, str]:
    """Those of VMs, by name, and what systemd says of each: active, failed, ... Raises HostError."""
    if not systemd_runs():
        return {}
    options = ("--all", "--type=service", "--plain", "--no-legend", "--full")
    lines = run(Command(("systemctl", "list-units", *options, unit_name("*")))).stdout.splitlines()
    found = [line.split() for line in lines]
    # One that is inactive is only spoken of by another.
    return {words[0].removesuffix(".service"): words[2] for words in found if words[2:] and words[2] != "inactive"}


def unit_folder(unit: str) -> Path | None:
    """The folder of the VM that a unit runs; none where it does not say. Raises HostError."""
    show = ("systemctl", "show", "--property=WorkingDirectory", "--value", f"{unit}.service")
    said = run(Command(show)).stdout.strip()
    # An exclamation mark where the folder may be missing (systemd: src/core/dbus-execute.c).
    return Path(said.removeprefix("!")) if said else None


@dataclass(frozen=True)
class Ended:
    """How the main process of a unit ended. One of the two is there."""

    signal: str = ""
    """SIGKILL, say."""
    code: int = 0


def ended(unit: str, folder: Path) -> Ended | None:
    """None where systemd does not know or does not answer, or where its process ended well, or where it is a unit of
    another VM. Anybody may ask it."""
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
"""Seconds: a list of VMs waits for it, and says less where systemd hangs."""
_BY_SIGNAL = ("2", "3")
"""CLD_KILLED and CLD_DUMPED (waitid(2)); 1, CLD_EXITED, has an exit code."""


def unit_process(unit: str) -> int | None:
    """Its main process; None where nothing runs in it. Raises HostError."""
    said = run(Command(("systemctl", "show", "--property=MainPID", "--value", f"{unit}.service"))).stdout.strip()
    return int(said) if said.isdecimal() and int(said) else None


def start_unit(machine: Machine) -> Command:
    """Returns once the VMM holds its record, as the unit's ExecStartPost waits for that. Raises ConfigError where its
    folders have names that no unit can have."""
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
            # Its script's programs are found as ours are: systemd's own PATH has no flock and no socat on NixOS.
            "--setenv=PATH",
            *(f"--property={line}" for line in properties),
            # By its shell, as the file system of the state may be mounted noexec (mount(8)).
            *("--", "/bin/sh", str(place.script), "run"),
        ),
        # systemd gives up before, and says why.
        timeout=BEGIN_SECONDS + 30,
        detached=True,
    )


_MOVED = "cd /proc/`printenv MAINPID`/cwd 2>/dev/null && [ -e vmm.sh ] || exit 0; exec /bin/sh ./vmm.sh stop"
"""A VMM's working folder is its VM's, wherever that was moved to. Without a dollar: systemd 257 writes each one twice
into the file of a transient unit, and reads that at a daemon-reload."""


def _end(place: Place) -> list[str]:
    """No failure of what presses the power button is a power cut: systemd waits until the time is over.

    Until then it sends no signal by which a VMM ends (KillSignal); then SIGTERM, at which a VMM writes out what it
    holds. passt gets SIGTERM too, and at once when its VMM is gone (systemd.kill(5): mixed, FinalKillSignal).
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
    """No capability, few devices, and of the host's files only its own to write; other VMs' are not even there."""
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
        # A dash: one that was moved since must not keep the unit from being stopped.
        f"BindPaths={_quoted(folder, '-')} {_quoted(run, '-')}",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_VSOCK",
    ]


def _quoted(path: Path, before: str = "") -> str:
    """One word (systemd.syntax(7), "Quoting"; by D-Bus, a % is itself). Raises ConfigError for characters that are read
    once more than others are: a colon ends the path of a file system, a dollar begins a variable of a command."""
    text = str(path)
    if hit := re.search(r"[:$\\\x00-\x1f\x7f]", text):
        raise ConfigError(
            f"no unit of systemd can have {text!r} in it: {hit[0]!r} means something else there",
            hint="keep the VMs elsewhere: VIRSHLE_STATE_DIR, VIRSHLE_RUN_DIR",
        )
    return f'"{before}' + text.replace('"', r"\"") + '"'
