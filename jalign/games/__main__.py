"""`python -m jalign.games`."""

from jalign.cli.solver_race import main

main()
