"""The process that runs one VM, behind one small protocol; a driver for each hypervisor."""

from virshle.vmm.choose import choose_driver
from virshle.vmm.driver import Driver, Launch, Machine, State, read_launch, ready_file, record

__all__ = ["Driver", "Launch", "Machine", "State", "choose_driver", "read_launch", "ready_file", "record"]
