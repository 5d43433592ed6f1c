"""`python -m services.cli` is `foldwork`, also where the package is not installed."""

from services.cli import main

main()
