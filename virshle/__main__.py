"""`python -m virshle` is `v`."""

from virshle.cli.main import main

main()
