"""The process that runs one VM, behind one small protocol (`driver`); a driver for each hypervisor."""
