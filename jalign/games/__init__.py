"""Preference games that are solved exactly, to test theory and algorithms."""

from jalign.games import examples, sequence_game, solvers, tables
from jalign.games.bradley_terry import bradley_terry_fit
from jalign.games.equilibria import nash, regularized_nash
from jalign.games.matrix import (
  best_response,
  duality_gap,
  exploitability,
  exploitability_by_value,
  kl,
  regularized_payoff,
  win_rates,
)
from jalign.games.runner import Trajectory, check_step, rotation_rates, run

__all__ = [
  "Trajectory",
  "best_response",
  "bradley_terry_fit",
  "check_step",
  "duality_gap",
  "examples",
  "exploitability",
  "exploitability_by_value",
  "kl",
  "nash",
  "regularized_nash",
  "regularized_payoff",
  "rotation_rates",
  "run",
  "sequence_game",
  "solvers",
  "tables",
  "win_rates",
]
