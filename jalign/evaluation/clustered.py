"""Means over prompts, with errors clustered by prompt; see `win_rate`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError

Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal


class Mean(NamedTuple):
  """A mean over prompts, with its error.

  Attributes:
    mean: mean of the prompts' means; NaN without values.
    standard_error: standard error, clustered by prompt; NaN for one prompt.
    interval: 95 % interval: normal from `clustered_mean`, Wilson's from
      `clustered_share`.
  """

  mean: float
  standard_error: float
  interval: tuple[float, float]


def clusters(prompt_ids: Sequence[Any] | np.ndarray | None, n: int):
  """[n] indices of each comparison's prompt, from hashable ids.

  Args:
    prompt_ids: an id per comparison; None for n different prompts.
    n: number of comparisons.

  Raises:
    UserError: there aren't n ids.
  """
  if prompt_ids is None:
    return np.arange(n)
  if len(prompt_ids) != n:
    raise UserError(f"{len(prompt_ids)} prompt ids for {n} comparisons.")
  index: dict[Any, int] = {}
  return np.array([index.setdefault(i, len(index)) for i in prompt_ids], int)


def take(ids: Sequence[Any] | np.ndarray | None, at: np.ndarray) -> Any:
  """The ids at some indices; None where there are none."""
  return None if ids is None else [ids[i] for i in at.tolist()]


def prompt_means(values: np.ndarray, cluster: np.ndarray) -> np.ndarray:
  """[G] means of [N] values by prompt, in the order of the prompts' indices."""
  _, row, count = np.unique(cluster, return_inverse=True, return_counts=True)
  return np.bincount(row, values) / count


def mean_and_error(means: np.ndarray) -> tuple[float, float]:
  """Mean and standard error of the prompts' means [G]."""
  mean = means.mean() if means.size else np.nan
  error = means.std(ddof=1) if means.size > 1 else np.nan
  return float(mean), float(error / np.sqrt(max(means.size, 1)))


def share_interval(
  mean: float, standard_error: float, prompts: int
) -> tuple[float, float]:
  """A 95 % interval of a share: of a mean of numbers in [0, 1].

  This is Wilson's score interval, which has a width at 0 and 1, too, with an
  effective number of prompts:

  n = G / phi,  phi = (1 - w) s^2 / (m (1 - m)) + w,  w = 1 / (1 + e^2),
  e = G min(m, 1 - m)

  s^2 is the variance of the prompts' means, and m (1 - m) that of verdicts, 0
  or 1, with the same mean m. Verdicts have phi = 1, which is Wilson's own
  interval (Wilson 1927, "Probable Inference, the Law of Succession, and
  Statistical Inference"). Preferences vary less than verdicts, so each prompt
  tells more. But if less than one prompt was lost in all, or won (e < 1), how
  much they vary isn't known, and they count as verdicts. In simulations of
  verdicts, preferences and clusters of verdicts, with G from 8 to 256, 91 % or
  more of the intervals covered the share, except 85 % for a share of 0.99 over
  16 prompts.

  Args:
    mean: mean of the prompts' means.
    standard_error: its standard error; unused for one prompt.
    prompts: G, number of prompts.

  Returns:
    (low, high) in [0, 1]; NaN without prompts.
  """
  if not prompts:
    return np.nan, np.nan
  z = Z95**2
  variance = mean * (1 - mean)
  weight = 1 / (1 + (prompts * min(mean, 1 - mean)) ** 2)
  phi = 1.0
  if variance > 0 and prompts > 1:
    seen = (prompts - 1) * standard_error**2 / variance
    phi = (1 - weight) * seen + weight
  t = z * phi / prompts
  middle = (mean + t / 2) / (1 + t)
  half = np.sqrt(t * variance + t**2 / 4) / (1 + t)
  low, high = max(middle - half, 0.0), min(middle + half, 1.0)
  return float(min(low, mean)), float(max(high, mean))


def clustered_share(
  values: ArrayLike,
  prompt_ids: Sequence[Any] | np.ndarray | None = None,
  *,
  scale: float = 1.0,
) -> Mean:
  """`clustered_mean` of shares, with the interval of `share_interval`.

  Args:
    values: [N] values in [0, scale].
    prompt_ids: [N] hashable ids; None for N different prompts.
    scale: 100 for per cent.
  """
  x = np.asarray(values, np.float64) / scale
  means = prompt_means(x, clusters(prompt_ids, x.size))
  mean, error = mean_and_error(means)
  low, high = share_interval(mean, error, means.size)
  return Mean(scale * mean, scale * error, (scale * low, scale * high))


def clustered_mean(
  values: ArrayLike, prompt_ids: Sequence[Any] | np.ndarray | None = None
) -> Mean:
  """The mean over prompts of each prompt's mean, for any quantity.

  Args:
    values: [N] finite numbers.
    prompt_ids: [N] hashable ids; None for N different prompts.
  """
  x = np.asarray(values, np.float64)
  means = prompt_means(x, clusters(prompt_ids, x.size))
  mean, error = mean_and_error(means)
  return Mean(mean, error, (mean - Z95 * error, mean + Z95 * error))
