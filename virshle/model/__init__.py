"""What virshle talks about, as frozen types: sizes, names, VMs, machine architectures."""
