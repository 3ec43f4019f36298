"""The files of one VM, apart from what drivers do with them: all that a list of VMs that do not run wants to know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class Place:
    """Where a VM is: its own folder, which stays, and its runtime folder, gone at a reboot.

    Root's VMs run as a user of their own (see `virshle.vmm.account`). To that user belong the disks, the folder of logs
    and the runtime folder, whose sockets the VMM makes; all else is root's, and root writes nothing into folders that
    are not.
    """

    folder: Path
    run: Path

    @property
    def record(self) -> Path:
        """Of the VM's process, which holds its lock: see `virshle.exec.process`. In the VM's own folder, since the
        runtime folder may go, at a logout for example, while the VM lives on."""
        return self.folder / "vmm.pid"

    @property
    def launch(self) -> Path:
        """What was chosen for the last run. It is of the process whose record has the same token."""
        return self.folder / "launch.json"

    @property
    def script(self) -> Path:
        """How it is run and stopped, for systemd and for people."""
        return self.folder / "vmm.sh"

    @property
    def seed(self) -> Path:
        """No disk of a template can have that name."""
        return self.folder / "disk" / ".seed"

    @property
    def logs(self) -> Path:
        return self.folder / "log"

    @property
    def console_log(self) -> Path:
        return self.logs / "console.log"

    @property
    def terminal_log(self) -> Path:
        """What viewers read of a console that is a pty: gone from there once it is read. They write it, not the VMM."""
        return self.folder / "terminal.log"

    @property
    def vmm_log(self) -> Path:
        return self.logs / "vmm.log"

    longest_log: ClassVar[int] = 16 << 20
    """Bytes. A guest can write to its console without end: a log that is longer is cut when the VM is started."""
    log_kept: ClassVar[int] = 1 << 20
    """Bytes of its end that are left then."""

    run_began: ClassVar[str] = "--- a run begins"
    """The line of its logs from which on they are of the last run."""

    @property
    def ready(self) -> Path:
        """What the guest says of itself, in lines as sd_notify(3) has them: `READY=1`."""
        return self.run / "ready"
