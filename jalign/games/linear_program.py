"""Plain games as linear programs, on the host."""

from typing import Any

import numpy as np

from jalign.errors import UserError


def solve(preferences: Any) -> np.ndarray:
  """A Nash equilibrium of each game, [..., n, n] -> [..., n]."""
  from scipy import optimize  # comes with jax; half a second to import

  games = np.asarray(preferences, np.float64)
  n = games.shape[-1]
  policies = []
  for game in games.reshape(-1, n, n):
    skew = game - 0.5
    found = optimize.linprog(
      np.zeros(n),
      A_ub=skew,
      b_ub=np.zeros(n),  # no action beats the policy
      A_eq=np.ones((1, n)),
      b_eq=[1.0],
      method="highs",
    )
    if found.x is None:
      raise UserError(f"the solver failed: {found.message}", where="nash")
    policies.append(_on_support(np.maximum(found.x, 0), skew))
  return np.reshape(policies, games.shape[:-1])


def _on_support(policy: np.ndarray, skew: np.ndarray) -> np.ndarray:
  """The policy with the last digits, if its support has a solution."""
  policy = policy / policy.sum()
  alive = policy > 1e-7
  k = alive.sum()
  rows = np.vstack([skew[np.ix_(alive, alive)], np.ones(k)])
  inside = np.linalg.lstsq(rows, np.append(np.zeros(k), 1.0))[0]
  exact = np.zeros_like(policy)
  exact[alive] = inside
  better = (skew @ exact).max() <= max((skew @ policy).max(), 1e-13)
  return exact if better and inside.min() >= 0 else policy
