"""Preference games, solved exactly: where theory is tested."""

from jalign.games.matrix import (
  best_response,
  bradley_terry_fit,
  duality_gap,
  exploitability,
  exploitability_by_value,
  kl,
  nash,
  regularized_nash,
  regularized_payoff,
  win_rates,
)

__all__ = [
  "best_response",
  "bradley_terry_fit",
  "duality_gap",
  "exploitability",
  "exploitability_by_value",
  "kl",
  "nash",
  "regularized_nash",
  "regularized_payoff",
  "win_rates",
]
