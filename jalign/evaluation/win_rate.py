"""Win rates from judged comparisons, with errors clustered by prompt.

The input is always the probability that the policy's response beats its
opponent's: a judge's probability, a verdict (1 win, 1/2 tie, 0 loss), or NaN
where the judge gave none. NaN is left out of every estimate, and counted.

There is one estimator: the mean over prompts of each prompt's mean. A benchmark
asks for the average over prompts. Samples of one prompt share its difficulty,
so they are not independent draws, and a prompt with more samples (or fewer
failed judgements) should not weigh more. With one comparison per prompt, this
is the plain mean, and its error is the ddof-1 standard error. All functions
compute in float64 NumPy; rates are fractions in [0, 1].
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError
from jalign.evaluation.clustered import (
  clusters,
  mean_and_error,
  prompt_means,
  share_interval,
)


class WinRate(NamedTuple):
  """How often the policy wins, and how certain that is.

  Attributes:
    win_rate: mean preference, a fraction in [0, 1]; NaN without comparisons.
    standard_error: standard error of `win_rate`, clustered by prompt; NaN for
      one prompt.
    interval: 95 % interval by `clustered.share_interval`. It lies in [0, 1],
      and has a width even if every comparison is won.
    discrete_win_rate: `win_rate` with preferences above 1/2 as 1, of exactly
      1/2 as 1/2, and below 1/2 as 0.
    prompts: number of prompts with at least one judged comparison.
    comparisons: number of judged comparisons.
    missing: number of comparisons without a preference, which are left out.
  """

  win_rate: float
  standard_error: float
  interval: tuple[float, float]
  discrete_win_rate: float
  prompts: int
  comparisons: int
  missing: int


class LengthAdjusted(NamedTuple):
  """A win rate at equal length.

  Attributes:
    win_rate: predicted preference at zero length difference, in [0, 1].
    standard_error: standard error of `win_rate`: cluster-robust, by the delta
      method.
    interval: 95 % interval by `clustered.share_interval`.
    length_effect: log-odds per unit of the bounded length difference; positive
      if longer responses win more.
    length_effect_error: cluster-robust standard error of `length_effect`.
    raw: the `WinRate` of the same comparisons without adjustment.
  """

  win_rate: float
  standard_error: float
  interval: tuple[float, float]
  length_effect: float
  length_effect_error: float
  raw: WinRate


class WinMatrix(NamedTuple):
  """Win rates of all contestants against each other.

  Attributes:
    names: names of n contestants.
    win_rate: [n, n] fraction of row beating column; 1/2 on the diagonal.
    standard_error: [n, n] clustered by prompt; 0 on the diagonal.
    low: [n, n] lower end of the 95 % interval of `win_rate`. The upper end is
      1 - low[column, row].
    comparisons: [n, n] number of judged comparisons; 0 on the diagonal.
  """

  names: tuple[str, ...]
  win_rate: np.ndarray
  standard_error: np.ndarray
  low: np.ndarray
  comparisons: np.ndarray


def _checked(preferences: ArrayLike) -> np.ndarray:
  """Preferences as float64; raises UserError unless in [0, 1] or NaN."""
  p = np.asarray(preferences, np.float64)
  wrong = np.argwhere(~(np.isnan(p) | ((p >= 0) & (p <= 1))))
  if wrong.size:
    at = tuple(int(i) for i in wrong[0])
    raise UserError(
      f"{p[at]} is not a probability.",
      where=f"preferences{list(at)}",
      remedy="Give P(policy beats opponent) in [0, 1], or NaN for none.",
    )
  return p


def win_rate(
  preferences: ArrayLike,
  prompt_ids: Sequence[Any] | np.ndarray | None = None,
) -> WinRate:
  """The mean over prompts of each prompt's mean preference.

  w = mean_g w_g,  w_g = mean_{i in g} p_i,  se = std_g(w_g, ddof 1) / sqrt(G)

  The ratio estimator is the mean over comparisons, with clustered variance
  (Miller 2024, "Adding Error Bars to Evals", arXiv:2411.00640). The module's
  docstring says why it isn't used; with equal numbers of samples per prompt,
  the rates are the same.

  On AlpacaEval 2's annotations this is the leaderboard's `win_rate`,
  `standard_error` and `discrete_win_rate` (times 100). A tie there is a
  preference of exactly 1/2, and nearly every tie is a response identical to the
  baseline's.

  Args:
    preferences: [N] P(policy beats opponent) in [0, 1]; NaN for none.
    prompt_ids: [N] hashable ids; comparisons of one prompt share an id. None
      for N different prompts.

  Returns:
    A `WinRate`; its estimates are NaN if nothing was judged.

  Raises:
    UserError: a value lies outside [0, 1], or shapes differ.
  """
  p = _checked(preferences)
  if p.ndim != 1:
    raise UserError(f"preferences have shape {p.shape}, not [N].")
  cluster = clusters(prompt_ids, p.size)
  judged = ~np.isnan(p)
  p, cluster = p[judged], cluster[judged]
  means = prompt_means(p, cluster)
  mean, error = mean_and_error(means)
  verdicts = (np.sign(p - 0.5) + 1) / 2
  discrete, _ = mean_and_error(prompt_means(verdicts, cluster))
  return WinRate(
    win_rate=mean,
    standard_error=error,
    interval=share_interval(mean, error, means.size),
    discrete_win_rate=discrete,
    prompts=means.size,
    comparisons=p.size,
    missing=int((~judged).sum()),
  )


def _logistic(x: np.ndarray) -> np.ndarray:
  return (1 + np.tanh(x / 2)) / 2


def _fit(design: np.ndarray, y: np.ndarray, weights: np.ndarray, scale: float):
  """Fits a fractional logistic regression by damped Newton steps.

  Returns:
    (coefficients, Hessian of the penalised loss).
  """
  prior = np.eye(design.shape[1]) / scale**2

  def loss(b):
    z = design @ b
    return weights @ (np.logaddexp(0, z) - y * z) + b @ prior @ b / 2

  b = np.zeros(design.shape[1])
  for _ in range(200):
    fitted = _logistic(design @ b)
    gradient = design.T @ (weights * (fitted - y)) + prior @ b
    curvature = weights * fitted * (1 - fitted)
    hessian = (design.T * curvature) @ design + prior
    step = np.linalg.solve(hessian, gradient)
    if gradient @ step < 1e-20 * weights.sum():
      break
    size = 1.0
    while loss(b - size * step) > loss(b) and size > 1e-6:
      size /= 2
    b -= size * step
  return b, hessian


def length_adjusted(
  preferences: ArrayLike,
  lengths: ArrayLike,
  baseline_lengths: ArrayLike,
  prompt_ids: Sequence[Any] | np.ndarray | None = None,
  *,
  scale: float = 10.0,
) -> LengthAdjusted:
  """The win rate that responses of the opponent's length would have.

  P(win) = sigmoid(a + b tanh(d / std(d))),  d = length - baseline length,
  is fitted to the preferences, with prompts of equal weight; sigmoid(a) is
  reported.

  This is a simplified variant of the idea in Dubois et al. 2024,
  "Length-Controlled AlpacaEval", arXiv:2404.04475. Their regression also has
  terms for the model and for each instruction's difficulty, shared over a
  leaderboard, so their LC numbers are not reproduced here. If the policy's
  response is nearly always the longer (or the shorter) one, zero difference is
  an extrapolation: watch the interval.

  Args:
    preferences: [N] P(policy beats opponent) in [0, 1]; NaN for none.
    lengths: [N] lengths of the policy's responses, in any unit.
    baseline_lengths: [N] lengths of the opponent's responses, in the same unit.
    prompt_ids: [N] hashable ids; None for N different prompts.
    scale: standard deviation, in log-odds, of a normal prior about 0 on a and
      b. The prior hardly moves a fit to a hundred prompts. It keeps the fit
      finite if the verdicts are all alike, or if length separates them.

  Returns:
    A `LengthAdjusted`.

  Raises:
    UserError: as in `win_rate`; or a length is not finite, no comparison was
      judged, or all comparisons have the same length difference, not 0.
  """
  raw = win_rate(preferences, prompt_ids)
  p = np.asarray(preferences, np.float64)
  sides = [np.asarray(x, np.float64) for x in (lengths, baseline_lengths)]
  if any(x.shape != p.shape or not np.isfinite(x).all() for x in sides):
    raise UserError(f"give {p.size} finite lengths for either side.")
  judged = ~np.isnan(p)
  if not judged.any():
    raise UserError("no comparison was judged.", where="preferences")
  difference = (sides[0] - sides[1])[judged]
  spread = difference.std()
  if spread == 0 and difference[0] != 0:
    problem = f"every length differs by {difference[0]:g}: no effect shows."
    raise UserError(problem, where="lengths", remedy="Use win_rate instead.")
  bounded = np.tanh(difference / spread) if spread else difference
  cluster = clusters(prompt_ids, p.size)[judged]
  _, row, count = np.unique(cluster, return_inverse=True, return_counts=True)
  groups = count.size
  design = np.stack([np.ones_like(bounded), bounded], axis=1)
  weights = 1 / count[row]
  coefficients, hessian = _fit(design, p[judged], weights, scale)

  residual = weights * (p[judged] - _logistic(design @ coefficients))
  scores = np.zeros((groups, 2))
  np.add.at(scores, row, residual[:, None] * design)
  bread = np.linalg.inv(hessian)
  correction = groups / (groups - 1) if groups > 1 else float("nan")
  covariance = correction * bread @ (scores.T @ scores) @ bread
  errors = np.sqrt(np.diag(covariance))
  rate = float(_logistic(coefficients[0]))
  error = float(rate * (1 - rate) * errors[0])
  return LengthAdjusted(
    win_rate=rate,
    standard_error=error,
    interval=share_interval(rate, error, groups),
    length_effect=float(coefficients[1]),
    length_effect_error=float(errors[1]),
    raw=raw,
  )


def win_matrix(
  names: Sequence[str],
  preferences: ArrayLike,
  prompt_ids: Sequence[Any] | np.ndarray | None = None,
  *,
  atol: float = 1e-5,
) -> WinMatrix:
  """Tabulates the win rates of every row against every column.

  Args:
    names: n contestants.
    preferences: [n, n, N] P(row beats column) on comparison N. The two orders
      of a pair sum to 1 or are both NaN; the diagonal is ignored.
    prompt_ids: [N] hashable ids; None for N different prompts.
    atol: tolerance of the check that the two orders sum to 1.

  Returns:
    A `WinMatrix`.

  Raises:
    UserError: shapes differ, or P[i, j] + P[j, i] is not 1 somewhere.
  """
  n, p = len(names), _checked(preferences)
  if p.ndim != 3 or p.shape[:2] != (n, n):
    raise UserError(f"preferences have shape {p.shape}, not [{n}, {n}, N].")
  rates, errors = np.full((n, n), 0.5), np.zeros((n, n))
  low = np.full((n, n), 0.5)
  comparisons = np.zeros((n, n), int)
  for i in range(n):
    for j in range(i + 1, n):
      total = p[i, j] + p[j, i]
      half = np.isnan(p[i, j]) != np.isnan(p[j, i])
      wrong = np.flatnonzero(half | (np.abs(total - 1) > atol))
      if wrong.size:
        k = wrong[0]
        raise UserError(
          f"{names[i]} beats {names[j]} with {p[i, j, k]:g}, and the reverse "
          f"with {p[j, i, k]:g}: the two should sum to 1.",
          where=f"preferences[{i}, {j}, {k}]",
          remedy="Judge each pair once, or average over the two orders.",
        )
      result = win_rate(p[i, j], prompt_ids)
      rates[i, j], rates[j, i] = result.win_rate, 1 - result.win_rate
      errors[i, j] = errors[j, i] = result.standard_error
      low[i, j], low[j, i] = result.interval[0], 1 - result.interval[1]
      comparisons[i, j] = comparisons[j, i] = result.comparisons
  return WinMatrix(tuple(names), rates, errors, low, comparisons)


def head_to_head(
  responses: Mapping[str, Any],
  preference_fn: Callable[[Any, Any], ArrayLike],
  prompt_ids: Sequence[Any] | np.ndarray | None = None,
) -> WinMatrix:
  """Judges every pair of contestants once, and tabulates who wins.

  Args:
    responses: name -> N responses, to the same prompts in the same order: a
      list, or anything of length N that `preference_fn` takes.
    preference_fn: `(a, b) -> [N]` P(a beats b), NaN for no judgement. It sees
      each pair in one order, so a judge with a position bias should average
      over both.
    prompt_ids: [N] hashable ids; None for N different prompts.

  Returns:
    A `WinMatrix`.

  Raises:
    UserError: the numbers of responses differ, or as in `win_matrix`.
  """
  names, sizes = list(responses), {len(r) for r in responses.values()}
  if len(sizes) != 1:
    raise UserError(f"response counts differ: {sorted(sizes)}.")
  p = np.full((len(names), len(names), sizes.pop()), 0.5)
  for i, first in enumerate(names):
    for j in range(i + 1, len(names)):
      judged = _checked(preference_fn(responses[first], responses[names[j]]))
      if judged.shape != p.shape[2:]:
        raise UserError(f"preference_fn returned shape {judged.shape}.")
      p[i, j], p[j, i] = judged, 1 - judged
  return win_matrix(names, p, prompt_ids)
