"""`python -m jalign`."""

from jalign.cli import main

main()
