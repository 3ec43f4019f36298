"""The process that runs one VM. Each hypervisor has a driver, and all drivers have one small protocol (`driver`)."""
