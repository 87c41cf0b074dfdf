"""Equilibria of games without a reference, computed on the host with NumPy."""

from typing import Any

import numpy as np

# An action may win at most this much beyond 1/2 against an equilibrium.
GAIN = 1e-12


def solve(preferences: Any) -> np.ndarray:
  """A Nash equilibrium of each game; never raises.

  With the margins S = (P - P^T) / 2, a policy p is an equilibrium if no action
  beats it: S p + s = 0 for some s >= 0. Non-negative least squares finds p >= 0
  and s >= 0 with S p + s = 0 and sum p = 1. The columns of its active set are
  independent, so that the solution is a vertex of the set of equilibria.

  Args:
    preferences: [..., n, n] P(row is preferred to column).

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
      if (margins @ policy).max() <= GAIN:  # False where the policy is NaN
        return policy
  return np.full(n, np.nan)


def _scaled_equilibrium(margins: np.ndarray, scale: np.ndarray) -> np.ndarray:
  """The equilibrium, found with rows and columns of the margins scaled.

  Scaling by positive numbers changes no sign, and so no equilibrium.
  """
  # Imported here, because the import takes half a second; SciPy comes with jax.
  from scipy import optimize

  n = len(margins)
  slack, total = np.eye(n), np.append(np.ones(n), np.zeros(n))
  rows = np.hstack([margins * scale * scale[:, None], slack])
  right = np.append(np.zeros(n), 1.0)
  try:
    # The method ends by itself, but rounding in badly scaled games can delay
    # the end.
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
