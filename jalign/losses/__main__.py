"""`python -m jalign.losses`."""

from jalign.cli.loss_catalogue import main

main()
