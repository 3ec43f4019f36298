"""The configuration: found, read, merged with what is built in, checked whole; nothing else of the host."""
