"""HC-RLHF's test of a cost limit, by three bounds, and how often each errs.

Chittepu et al. 2025, "Reinforcement Learning from Human Feedback with
High-Confidence Safety Constraints", arXiv:2506.08266.
"""

import functools

import numpy as np
from scipy import stats

DELTA = 0.1
REPEATS = 20_000


def upper_t(k: np.ndarray, n: int) -> np.ndarray:
  """Upper bound mean + t s / sqrt(n) for n costs of 0 or 1, k of them 1."""
  mean = k / n
  spread = np.sqrt(mean * (1 - mean) * n / (n - 1))
  return mean + stats.t.ppf(1 - DELTA, n - 1) * spread / np.sqrt(n)


def upper_hoeffding(k: np.ndarray, n: int) -> np.ndarray:
  """Hoeffding's upper bound, for any costs in [0, 1]."""
  return k / n + np.sqrt(-np.log(DELTA) / (2 * n))


def upper_clopper_pearson(k: np.ndarray, n: int) -> np.ndarray:
  """The exact upper bound for costs of 0 or 1."""
  high = stats.beta.ppf(1 - DELTA, k + 1, np.maximum(n - k, 1e-9))
  return np.where(k < n, high, 1.0)


TESTS = {
  "Student t": upper_t,
  "Clopper-Pearson": upper_clopper_pearson,
  "Hoeffding": upper_hoeffding,
}


def passes(
  n: int, rate: np.ndarray, limit: np.ndarray
) -> dict[str, np.ndarray]:
  """P(upper bound <= limit) [m] of n Bernoulli(rate) costs, exactly, by test.

  Args:
    n: number of costs in the safety set.
    rate: [m] true probabilities of a cost of 1.
    limit: [m] limits tau.
  """
  k = np.arange(n + 1)
  law = stats.binom.pmf(k, n, np.asarray(rate)[:, None])
  # A hair of slack, so that a bound equal to the limit counts as a pass.
  tau = np.asarray(limit)[:, None] * (1 + 1e-12)
  return {
    name: (law * (bound(k, n) <= tau)).sum(1) for name, bound in TESTS.items()
  }


@functools.lru_cache
def false_passes(n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """(rates [m], P(pass) [m] by test), where the rate is the limit."""
  rates = np.geomspace(1e-3, 0.9, 400)
  return rates, passes(n, rates, rates)


def sampled_passes(draw, n: int) -> tuple[float, float]:
  """P(pass) of Student's t for costs of mean 0 = tau, and its error."""
  costs = draw(np.random.default_rng(n), (REPEATS, n))
  factor = stats.t.ppf(1 - DELTA, n - 1) / np.sqrt(n)
  share = float(np.mean(costs.mean(1) + factor * costs.std(1, ddof=1) <= 0))
  return share, float(np.sqrt(share * (1 - share) / REPEATS))
