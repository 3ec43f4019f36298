"""The names of the states of a VM."""

STATES = ("running", "paused", "starting", "stopped", "crashed", "broken", "unknown")
