"""Means over prompts, with errors clustered by prompt. See `win_rate`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError

Z95 = 1.959963984540054  # the normal's 97.5 % point


class Mean(NamedTuple):
  """A mean over prompts.

  Attributes:
    mean: of the prompts' means; NaN without values.
    standard_error: clustered by prompt; NaN for one prompt.
    interval: 95 %, normal.
  """

  mean: float
  standard_error: float
  interval: tuple[float, float]


def clusters(prompt_ids: Sequence[Any] | np.ndarray | None, n: int):
  """[n] index of each comparison's prompt, from hashable ids.

  Raises:
    UserError: there aren't n ids.
  """
  if prompt_ids is None:
    return np.arange(n)
  if len(prompt_ids) != n:
    raise UserError(f"{len(prompt_ids)} prompt ids for {n} comparisons.")
  index: dict[Any, int] = {}
  return np.array([index.setdefault(i, len(index)) for i in prompt_ids], int)


def prompt_means(values: np.ndarray, cluster: np.ndarray) -> np.ndarray:
  """[G] from [N], prompts in order of their index."""
  _, row, count = np.unique(cluster, return_inverse=True, return_counts=True)
  return np.bincount(row, values) / count


def mean_and_error(means: np.ndarray) -> tuple[float, float]:
  """Mean and standard error of [G] prompts' means."""
  mean = means.mean() if means.size else np.nan
  error = means.std(ddof=1) if means.size > 1 else np.nan
  return float(mean), float(error / np.sqrt(max(means.size, 1)))


def clustered_mean(
  values: ArrayLike, prompt_ids: Sequence[Any] | np.ndarray | None = None
) -> Mean:
  """The mean over prompts of each prompt's mean, of any quantity.

  Args:
    values: [N] finite numbers.
    prompt_ids: [N] hashable; None: N different prompts.
  """
  x = np.asarray(values, np.float64)
  means = prompt_means(x, clusters(prompt_ids, x.size))
  mean, error = mean_and_error(means)
  return Mean(mean, error, (mean - Z95 * error, mean + Z95 * error))
