"""Equilibria of plain games, on the host."""

from typing import Any

import numpy as np

GAIN = 1e-12  # how much an action may win beyond 1/2 against an equilibrium


def solve(preferences: Any) -> np.ndarray:
  """A Nash equilibrium of each game, [..., n, n] -> [..., n]; never raises.

  Of the margins S = (P - P^T) / 2, a policy p is an equilibrium if no action
  beats it: S p + s = 0 for some s >= 0. Non-negative least squares finds p and
  s >= 0 with S p + s = 0 and sum p = 1. Its active set has independent columns,
  and so has its solution: a vertex of the set of equilibria.

  Returns:
    [..., n] probabilities that no action beats by more than 1e-12; NaN where a
    game isn't finite or no such policy was found.
  """
  games = np.asarray(preferences, np.float64)
  n = games.shape[-1]
  policies = [_equilibrium(game) for game in games.reshape(-1, n, n)]
  return np.reshape(np.array(policies, np.float64), games.shape[:-1])


def _equilibrium(game: np.ndarray) -> np.ndarray:
  n = len(game)
  if np.isfinite(game).all():
    margins = (game - game.T) / 2
    for scale in (_balance(margins), np.ones(n)):
      policy = _scaled_equilibrium(margins, scale)
      if (margins @ policy).max() <= GAIN:  # False where it is NaN
        return policy
  return np.full(n, np.nan)


def _scaled_equilibrium(margins: np.ndarray, scale: np.ndarray) -> np.ndarray:
  """That of margins with rows and columns scaled, which moves no sign."""
  from scipy import optimize  # comes with jax; half a second to import

  n = len(margins)
  slack, total = np.eye(n), np.append(np.ones(n), np.zeros(n))
  rows = np.hstack([margins * scale * scale[:, None], slack])
  right = np.append(np.zeros(n), 1.0)
  try:
    # It ends by itself; rounding of badly scaled games can delay the end.
    solution, _ = optimize.nnls(
      np.vstack([rows, total]), right, maxiter=1000 * n
    )
  except RuntimeError:  # out of iterations
    return np.full(n, np.nan)
  policy = np.maximum(solution[:n], 0) * scale
  return policy / policy.sum() if policy.any() else np.full(n, np.nan)


def _balance(margins: np.ndarray) -> np.ndarray:
  """[n] scales after which the largest margin of each action is about 1."""
  size, scale = np.abs(margins), np.ones(len(margins))
  for _ in range(10):
    largest = (size * scale * scale[:, None]).max(-1)
    scale /= np.sqrt(np.where(largest > 0, largest, 1))
  return scale
