"""Reward against KL on finite sets: tilted policies, lines and fitted forms.

A set of K responses is an array [K] of base probabilities and an array [K] of
rewards. KL is KL(policy || base), in nats, and d its square root.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize, special

from experiments.papers.sequences import kl

# Gao, Schulman, Hilton 2022, arXiv:2210.10760: gain d (alpha - beta f(d)), with
# the first f for best-of-n and the second for RL.
FORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  "d": lambda d: d,
  "log d": np.log,
}


def tilted(p: np.ndarray, r: np.ndarray, strength: float) -> np.ndarray:
  """[K] p exp(strength r) / Z, which has the most reward for its KL.

  The optimum of E r - beta KL has strength 1 / beta.
  """
  weights = p * np.exp(strength * (r - r.max()))
  return weights / weights.sum()


def strength_of(p: np.ndarray, r: np.ndarray, target: float) -> float:
  """The strength at which the tilted policy has a KL of `target` nats.

  Args:
    p: [K] base probabilities.
    r: [K] rewards.
    target: above 0, below -log of the base probability of the largest reward.
  """
  excess = lambda x: kl(tilted(p, r, np.exp(x)), p) - target
  low = high = 0.0
  while excess(low) > 0:
    low -= 2
  while excess(high) < 0:
    high += 2
  return float(np.exp(optimize.brentq(excess, low, high, xtol=1e-13)))


def tilted_to(p: np.ndarray, r: np.ndarray, target: float) -> np.ndarray:
  """[K] the tilted policy of a given KL; see `strength_of`."""
  return tilted(p, r, strength_of(p, r, target))


def cells(law: Any, count: int, tail: float) -> tuple[np.ndarray, np.ndarray]:
  """Atoms of a continuous law, evenly spaced in the log-odds of their rank.

  Args:
    law: a frozen law of scipy.stats.
    count: number of atoms, K.
    tail: probability of an outermost cell, about.

  Returns:
    (probabilities [K], quantiles [K], ascending).
  """
  edges = np.linspace(-1, 1, count + 1) * np.log(1 / tail)
  low, high = special.expit(edges), special.expit(-edges)
  low[0] = high[-1] = 0
  # In the upper half, small probabilities are exact as complements.
  p = np.where(edges[1:] <= 0, np.diff(low), -np.diff(high))
  middle = (edges[1:] + edges[:-1]) / 2
  below, above = law.ppf(special.expit(middle)), law.isf(special.expit(-middle))
  return p / p.sum(), np.where(middle < 0, below, above)


def moments(p: np.ndarray, r: np.ndarray) -> tuple[float, float, float]:
  """Mean, standard deviation and skewness of rewards r [K] with law p [K]."""
  mean = p @ r
  spread = np.sqrt(p @ (r - mean) ** 2)
  return float(mean), float(spread), float(p @ (r - mean) ** 3 / spread**3)


def r_squared(y: np.ndarray, fitted: np.ndarray) -> float:
  """1 - sum of squared residuals / sum of squares about the mean."""
  return float(1 - np.sum((y - fitted) ** 2) / np.sum((y - y.mean()) ** 2))


def line(d: np.ndarray, gain: np.ndarray) -> tuple[float, float]:
  """Slope and R^2 of the least-squares line through the origin."""
  slope = float(d @ gain / (d @ d))
  return slope, r_squared(gain, slope * d)


def gao(
  d: np.ndarray, gain: np.ndarray, form: str
) -> tuple[float, float, np.ndarray, float]:
  """Fits gain = d (alpha - beta f(d)) by least squares.

  Args:
    d: [N] square roots of KL, above 0.
    gain: [N] gains.
    form: name of f in `FORMS`.

  Returns:
    (alpha, beta, the fitted gains [N], R^2).
  """
  columns = np.stack([d, -d * FORMS[form](d)], 1)
  (alpha, beta), *_ = np.linalg.lstsq(columns, gain, rcond=None)
  fitted = d * (alpha - beta * FORMS[form](d))
  return float(alpha), float(beta), fitted, r_squared(gain, fitted)
