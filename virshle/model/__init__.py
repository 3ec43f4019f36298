"""Frozen types for sizes, names, VMs and machine architectures."""
