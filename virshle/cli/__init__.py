"""The command line: click, one file a noun. It prints and exits; what it prints comes from `virshle.service`."""
