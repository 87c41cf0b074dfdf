"""`python -m jalign.online`."""

from jalign.cli.algorithm_catalogue import main

main()
