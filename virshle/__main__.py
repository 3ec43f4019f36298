"""`python -m virshle` is the same as `v`."""

from virshle.cli.main import main

main()
