"""The paths of one VM's files. This is apart from the drivers, because a list of stopped VMs needs only the paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class Place:
    """The two folders of a VM: its own folder, which stays, and its runtime folder, which is gone after a reboot.

    Root's VMs run as another user (see `virshle.vmm.account`). That user owns the disks, the folder of logs and the
    runtime folder, because the VMM makes its sockets there. Root owns everything else. Root never writes into a folder
    that it does not own.
    """

    folder: Path
    run: Path

    @property
    def record(self) -> Path:
        """The record of the VM's process. The process holds a lock on it: see `virshle.exec.process`. It is in the VM's
        own folder, because the runtime folder can disappear while the VM runs, for example at a logout."""
        return self.folder / "vmm.pid"

    @property
    def launch(self) -> Path:
        """The choices for the last run. They belong to the process whose record has the same token."""
        return self.folder / "launch.json"

    @property
    def script(self) -> Path:
        """The script that runs and stops the VM, for systemd and for people."""
        return self.folder / "vmm.sh"

    @property
    def seed(self) -> Path:
        """The seed disk. A disk of a template cannot have this name, because it begins with a dot."""
        return self.folder / "disk" / ".seed"

    @property
    def logs(self) -> Path:
        return self.folder / "log"

    @property
    def console_log(self) -> Path:
        return self.logs / "console.log"

    @property
    def terminal_log(self) -> Path:
        """The output of a console that is a pty. A pty keeps no output that was read. So the viewers write what they
        read to this file. The VMM does not write it."""
        return self.folder / "terminal.log"

    @property
    def vmm_log(self) -> Path:
        return self.logs / "vmm.log"

    longest_log: ClassVar[int] = 16 << 20
    """Bytes. A guest can write to its console without a limit. A longer log is cut when the VM starts."""
    log_kept: ClassVar[int] = 1 << 20
    """Bytes. A log that is cut keeps this much of its end."""

    run_began: ClassVar[str] = "--- a run begins"
    """A line in the logs. The last run begins after the last such line."""

    @property
    def ready(self) -> Path:
        """The guest's own messages, as lines in the format of sd_notify(3): `READY=1`."""
        return self.run / "ready"
