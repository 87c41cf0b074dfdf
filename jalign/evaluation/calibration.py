"""Calibration: how often a model is right, by its confidence.

Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError
from jalign.evaluation.clustered import clusters, share_interval


class Reliability(NamedTuple):
  """How often a model is right, by its confidence.

  Attributes:
    confidence: [bins] mean confidence of a bin; NaN if the bin is empty.
    accuracy: [bins] share of a bin's pairs that are right; ties count 1/2.
    pairs: [bins] number of pairs in a bin.
    ece: expected calibration error: the mean over pairs of their bin's
      |accuracy - confidence|. With bins of equal mass this is the ACE.
    mce: maximum calibration error: the largest |accuracy - confidence| of a bin
      that isn't empty.
    low: [bins] lower ends of 95 % intervals of `accuracy`, by
      `clustered.share_interval`; NaN if the bin is empty.
    high: [bins] upper ends of these intervals.
  """

  confidence: np.ndarray
  accuracy: np.ndarray
  pairs: np.ndarray
  ece: float
  mce: float
  low: np.ndarray
  high: np.ndarray


def calibration(
  confidence: ArrayLike,
  right: ArrayLike,
  bins: int = 10,
  *,
  start: float = 0.0,
  equal_mass: bool = False,
  groups: Sequence[Any] | np.ndarray | None = None,
) -> Reliability:
  """Compares confidences with how often they come true.

  Args:
    confidence: [N] probabilities of some events, in [start, 1].
    right: [N] whether the events came true, in [0, 1]; a fraction counts as
      that share of an event.
    bins: number of bins, of equal width over [start, 1]; a confidence of 1 lies
      in the last bin.
    start: where the first bin begins.
    equal_mass: whether bins have equal numbers of events instead.
    groups: [N] hashable ids of prompts, by which the intervals cluster; None
      for N different prompts.

  Raises:
    UserError: a confidence lies outside [start, 1], or shapes differ.
  """
  sure, came = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
  if sure.ndim != 1 or sure.shape != came.shape:
    raise UserError(
      f"confidences have shape {sure.shape}, and outcomes {came.shape}.",
      where="calibration",
    )
  if not ((sure >= start) & (sure <= 1)).all():  # NaN is outside, too
    at = int(np.argmin((sure >= start) & (sure <= 1)))
    raise UserError(
      f"a confidence is {sure[at]}, outside [{start:g}, 1].",
      where=f"confidence[{at}]",
    )
  bin_of = (
    equal_mass_bins(sure, bins)
    if equal_mass
    else _equal_width(sure, bins, start)
  )
  cluster = clusters(groups, sure.size)
  middle, share = np.full(bins, np.nan), np.full(bins, np.nan)
  low, high = np.full(bins, np.nan), np.full(bins, np.nan)
  count = np.bincount(bin_of, minlength=bins)
  for i in np.flatnonzero(count).tolist():
    inside = bin_of == i
    middle[i], share[i] = sure[inside].mean(), came[inside].mean()
    low[i], high[i] = pooled_interval(came[inside], cluster[inside])
  full = count > 0
  off = np.abs(share - middle)[full]
  return Reliability(
    *(middle, share, count),
    ece=float(np.sum(count[full] / max(count.sum(), 1) * off)),
    mce=float(off.max(initial=0.0)),
    low=low,
    high=high,
  )


def reliability(
  margins: ArrayLike,
  bins: int = 10,
  *,
  equal_mass: bool = False,
  labels: ArrayLike | None = None,
  groups: Sequence[Any] | np.ndarray | None = None,
) -> Reliability:
  """Calibration of Bradley-Terry preferences sigmoid(margin).

  The confidence is the probability of whichever response the model prefers, in
  [1/2, 1]; the model is right where the margin is positive.

  Args:
    margins: [P] rewards of the chosen responses minus those of the rejected,
      from a reward model, or implicit rewards; or a preference model's log-odds
      that the chosen response is preferred.
    bins: number of bins, of equal width over [1/2, 1].
    equal_mass: whether bins have equal numbers of pairs instead (ACE).
    labels: [P] P(the chosen response is preferred) of uncertain labels; None
      where every label is certain.
    groups: [P] hashable ids of prompts, by which the intervals cluster; None
      for P different prompts.

  Raises:
    UserError: a margin is NaN, or shapes differ.
  """
  values = np.asarray(margins, np.float64)
  sure = 0.5 * (1 + np.tanh(np.abs(values) / 2))
  return calibration(
    sure,
    agreement(values, 1.0 if labels is None else labels),
    bins,
    start=0.5,
    equal_mass=equal_mass,
    groups=groups,
  )


def agreement(margins: ArrayLike, labels: ArrayLike) -> np.ndarray:
  """[N] P(a label agrees with the sign of its margin); ties count 1/2.

  Args:
    margins: [N] positive where the first response is preferred.
    labels: [N] P(the first response is preferred), or one number for all.
  """
  sign = np.sign(np.asarray(margins, np.float64))
  return 0.5 + sign * (np.asarray(labels, np.float64) - 0.5)


def pooled_interval(
  values: np.ndarray, cluster: np.ndarray
) -> tuple[float, float]:
  """A 95 % interval of the plain mean of shares that come in clusters.

  This is `share_interval` with the cluster-robust standard error of a mean over
  values rather than over clusters:

  se^2 = G / (G - 1) sum_g (sum_{i in g} (x_i - x))^2 / N^2

  Args:
    values: [N] numbers in [0, 1].
    cluster: [N] indices of clusters.

  Returns:
    (low, high); Wilson's interval if no cluster has a second value.
  """
  _, row = np.unique(cluster, return_inverse=True)
  count, mean = int(row.max(initial=-1)) + 1, float(values.mean())
  sums = np.bincount(row, values - mean)
  scale = count / (count - 1) if count > 1 else np.nan
  error = np.sqrt(scale * np.sum(sums**2)) / values.size
  return share_interval(mean, float(error), count)


def _equal_width(sure: np.ndarray, bins: int, start: float) -> np.ndarray:
  """[N] numbers of bins of equal width over [start, 1]."""
  at = (sure - start) / (1 - start) * bins
  return np.minimum(at.astype(int), bins - 1)


def equal_mass_bins(values: np.ndarray, bins: int) -> np.ndarray:
  """[N] numbers of bins that hold equally many values, or one more or less."""
  at = np.empty(values.size, int)
  order = np.argsort(values, kind="stable")
  at[order] = np.arange(values.size) * bins // max(values.size, 1)
  return at
