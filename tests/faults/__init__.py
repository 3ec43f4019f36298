"""Every operation, with a fault at every one of its steps: nothing lost, nothing left. `scripts/faults`."""
