"""What a VM's state is called."""

STATES = ("running", "paused", "starting", "stopped", "crashed", "broken", "unknown")
