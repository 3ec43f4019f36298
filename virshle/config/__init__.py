"""The configuration: find it, read it, merge it with the built-in one, and check it. Reads nothing else of the host."""
