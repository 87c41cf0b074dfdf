"""Reward models that are linear in features with a meaning.

A few hundred labelled pairs suffice for the weights of a few features that are
computed otherwise: by rules, by other models, or by people.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError
from jalign.feedback.judge import Judge, from_rewards

_Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal
_STEPS = 100


class FeatureFit(NamedTuple):
  """Weights of K features, fitted to N pairs.

  Attributes:
    names: K names of the features.
    coefficients: [K] reward per unit of each feature, log-odds.
    standard_errors: [K] robust errors, clustered by group.
    intervals: [K, 2] 95 % intervals, normal.
    nll: mean negative log-likelihood of the labels, nats.
    accuracy: share of the labels' mass on the side that scores higher, in
      [0, 1]; ties count one half.
    pairs: N.
    groups: number of groups; errors are unreliable below some thirty.
  """

  names: tuple[str, ...]
  coefficients: np.ndarray
  standard_errors: np.ndarray
  intervals: np.ndarray
  nll: float
  accuracy: float
  pairs: int
  groups: int

  def summary(self) -> str:
    """Lines for readers: each feature's coefficient and interval."""
    rows = zip(self.names, self.coefficients, self.intervals)
    return "\n".join(
      f"{name}: {value:.3f} ({low:.3f} to {high:.3f})"
      for name, value, (low, high) in rows
    )


def fit_features(
  chosen: ArrayLike,
  rejected: ArrayLike,
  names: Sequence[str],
  *,
  preference: ArrayLike | None = None,
  groups: Sequence[Any] | None = None,
  ridge: float = 0.0,
) -> FeatureFit:
  """Fits P(chosen > rejected) = sigmoid(b . (f_w - f_l)) by Newton's method.

  The fit is Bradley-Terry's maximum likelihood in float64. Errors are those of
  the sandwich H^-1 (sum over groups of s s^T) H^-1 G / (G - 1), where s is a
  group's score, so that pairs of one prompt may depend on each other.

  The idea of a reward model on features of a domain: Nath et al. 2024,
  "Leveraging Domain Knowledge for Efficient Reward Modelling in RLHF",
  arXiv:2402.15473 (which has a small network in place of the linear form).

  Args:
    chosen: [N, K] features of the preferred responses.
    rejected: [N, K] the same of the other responses.
    names: K names.
    preference: [N] P(chosen > rejected) in [0, 1]; by default 1.
    groups: [N] hashable ids, such as prompts; by default all differ.
    ridge: weight of the squared coefficients' half sum, beside the mean loss,
      >= 0. Coefficients are then biased towards 0, and intervals are not of
      the true ones.

  Raises:
    UserError: shapes or numbers make no sense; a feature never differs within
      a pair; features are linearly dependent; or the labels are separable, so
      that no finite coefficients are best.
  """
  x, y, cluster = _checked(chosen, rejected, names, preference, groups, ridge)
  n, k = x.shape
  _check_identified(x, names, ridge)
  scale = np.sqrt(np.mean(x**2, 0))
  scale = np.where(scale > 0, scale, 1.0)
  z = x / scale  # so that the steps don't depend on the features' units
  penalty = ridge / scale**2
  beta = np.zeros(k)

  def loss_of(b):
    gap = z @ b
    each = np.logaddexp(0, -gap) + (1 - y) * gap
    return each.mean() + 0.5 * penalty @ b**2

  for _ in range(_STEPS):
    p = _sigmoid(z @ beta)
    gradient = z.T @ (p - y) / n + penalty * beta
    hessian = (z * (p * (1 - p))[:, None]).T @ z / n + np.diag(penalty)
    if np.linalg.cond(hessian) > 1e12:
      raise _separable()
    step = np.linalg.solve(hessian, gradient)
    size, before = 1.0, loss_of(beta)
    while loss_of(beta - size * step) > before and size > 1e-10:
      size /= 2
    beta = beta - size * step
    if gradient @ step < 1e-20:
      break
  else:
    raise _separable()
  p = _sigmoid(z @ beta)
  hessian = (z * (p * (1 - p))[:, None]).T @ z / n + np.diag(penalty)
  right = z @ beta * (2 * y - 1)  # a soft label has a side of both signs
  split = np.all(np.where((y > 0) & (y < 1), z @ beta == 0, right >= 0))
  if not ridge and (split or np.linalg.cond(hessian) > 1e10):
    raise _separable()
  inverse = np.linalg.inv(hessian) / n
  scores = np.zeros((cluster.max() + 1, k))
  np.add.at(scores, cluster, z * (y - p)[:, None])
  count = len(scores)
  meat = scores.T @ scores * count / max(count - 1, 1)
  errors = np.sqrt(np.diag(inverse @ meat @ inverse)) / scale
  if count < 2:
    errors = np.full(k, np.nan)
  found = beta / scale
  gap = x @ found
  side = np.where(gap > 0, y, np.where(gap < 0, 1 - y, 0.5))
  half = _Z95 * errors
  return FeatureFit(
    tuple(names),
    found,
    errors,
    np.stack([found - half, found + half], 1),
    float(np.mean(np.logaddexp(0, -gap) + (1 - y) * gap)),
    float(side.mean()),
    n,
    count,
  )


def judge_of_features(
  features: Callable[[Sequence[str], Sequence[str]], ArrayLike],
  coefficients: ArrayLike,
  *,
  scale: float = 1.0,
) -> Judge:
  """Makes a judge whose reward is linear in features.

  Args:
    features: `(prompts, responses) -> [N, K]`, from two lists of N texts.
    coefficients: [K] reward per unit, say `FeatureFit.coefficients`.
    scale: inverse temperature of the preferences, > 0.

  Raises:
    UserError: the coefficients aren't K finite numbers, or the scale is out of
      range. The judge raises it for features of another shape.
  """
  weights = np.asarray(coefficients, np.float64)
  if weights.ndim != 1 or not weights.size or not np.isfinite(weights).all():
    raise UserError("the coefficients are not a list of finite numbers.")

  def rewards(prompts, responses, rows):
    del rows
    found = np.asarray(features(prompts, responses), np.float64)
    if found.shape != (len(prompts), len(weights)):
      raise UserError(
        f"gave features of shape {found.shape} for {len(prompts)} responses and"
        f" {len(weights)} coefficients.",
        remedy="Return a row of features for each response.",
      )
    return found @ weights

  return from_rewards(rewards, scale=scale)


def _checked(chosen, rejected, names, preference, groups, ridge):
  """([N, K] differences, [N] probabilities, [N] indices of groups)."""
  good = np.asarray(chosen, np.float64)
  bad = np.asarray(rejected, np.float64)
  if good.ndim != 2 or good.shape != bad.shape or good.shape[1] != len(names):
    raise UserError(
      f"features of shapes {good.shape} and {bad.shape} for {len(names)}"
      " names.",
      remedy="Give [N, K] features of either side, and K names.",
    )
  if not good.size:
    raise UserError("there are no pairs, or no features.")
  if not (np.isfinite(good).all() and np.isfinite(bad).all()):
    raise UserError("a feature is not a finite number.")
  if not 0 <= ridge < np.inf:
    raise UserError(f"{ridge} must be >= 0 and finite.", where="ridge")
  n = len(good)
  y = np.ones(n) if preference is None else np.asarray(preference, np.float64)
  if y.shape != (n,) or not ((y >= 0) & (y <= 1)).all():
    raise UserError(f"preference is not {n} numbers in [0, 1].")
  ids = range(n) if groups is None else groups
  if len(ids) != n:
    raise UserError(f"{len(ids)} groups for {n} pairs.")
  index: dict[Any, int] = {}
  cluster = np.array([index.setdefault(i, len(index)) for i in ids])
  return good - bad, y, cluster


def _check_identified(
  x: np.ndarray, names: Sequence[str], ridge: float
) -> None:
  if ridge:
    return
  still = [name for name, column in zip(names, x.T) if not column.any()]
  if still:
    raise UserError(
      f"{', '.join(still)} never differs within a pair, so no pair tells its"
      " weight.",
      remedy="Leave the feature out, give pairs that differ in it, or set"
      " ridge above 0.",
    )
  scaled = x / np.sqrt(np.mean(x**2, 0))
  if np.linalg.matrix_rank(scaled) < x.shape[1]:
    raise UserError(
      "the features' differences are linearly dependent, so many weights fit"
      " equally well.",
      remedy="Leave a feature out, or set ridge above 0.",
    )


def _separable() -> UserError:
  return UserError(
    "some weights put every pair in its label's order, so larger weights always"
    " fit better.",
    remedy="Give more pairs, or soft labels, or set ridge above 0.",
  )


def _sigmoid(x: np.ndarray) -> np.ndarray:
  return 0.5 * (1 + np.tanh(0.5 * x))
