"""A grid of regularised games, from easy ones to extreme ones.

They have sizes 2 to 50, tau 1e-3 to 10, references down to 1e-12, and
preferences that are random, certain, a cycle, or near ties.
"""

from collections.abc import Iterator

import numpy as np

SIZES = (2, 3, 5, 10, 20, 50)
TAUS = (1e-3, 3e-3, 1e-2, 0.1, 1.0, 10.0)
FLOORS = (1.0, 1e-3, 1e-6, 1e-12)
KINDS = ("random", "certain", "cycle", "near ties")


def preferences(kind: str, n: int, seed: int = 0) -> np.ndarray:
  """[n, n] preferences of a kind, with P + P^T = 1 exactly."""
  rng = np.random.default_rng([seed, n, KINDS.index(kind)])
  if kind == "cycle":
    i = np.arange(n)
    margins = np.sign((i[:, None] - i + n // 2) % n - n // 2) / 2
    margins = np.triu(margins, 1)
  else:
    margins = rng.uniform(-0.5, 0.5, (n, n))
    if kind == "certain":
      margins = np.sign(margins) / 2
    if kind == "near ties":
      margins *= 10.0 ** rng.integers(-12, 1, (n, n))
    margins = np.triu(margins, 1)
  return 0.5 + margins - margins.T


def reference(floor: float, n: int) -> np.ndarray:
  """[n] probabilities, from nearly 1 down to about `floor`."""
  weights = np.geomspace(1.0, floor, n)
  return weights / weights.sum()


def games(size: int) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
  """Yields 96 games of a size: (preferences, reference, tau)."""
  for kind in KINDS:
    for floor in FLOORS:
      for tau in TAUS:
        yield preferences(kind, size), reference(floor, size), tau


def error(policy, game) -> float:
  """Distance of the log policy to its best response, in nats, by NumPy."""
  p, mu, tau = game
  logits = np.log(mu) + p @ policy / tau
  top = logits.max()
  best = logits - top - np.log(np.exp(logits - top).sum())
  alive = policy > 1e-290  # smaller ones have lost their digits
  return np.abs(np.log(policy[alive]) - best[alive]).max()
