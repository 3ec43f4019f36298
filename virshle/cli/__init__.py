"""The command line, made with click, one file per noun. It prints and exits; its data comes from `virshle.service`."""
