"""Exact limits of what can be learnt from the labels of pairs.

Labels are draws of exact probabilities, so the accuracy and the negative
log-likelihood of the best possible predictor are known, for one who knows only
the population as for one who knows the rater's group.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jalign.data.tldr_world.raters import GROUPS, WEIGHTS, population_rater
from jalign.data.tldr_world.summary import attributes


class Limit(NamedTuple):
  """What a predictor reaches, in expectation over labels.

  Attributes:
    accuracy: share of labels that the predictor agrees with; ties count 1/2.
    nll: mean negative log-likelihood of the labels, nats.
  """

  accuracy: float
  nll: float


def expected(predicted: ArrayLike, exact: ArrayLike) -> Limit:
  """What predictions reach on labels that are drawn by exact probabilities.

  Args:
    predicted: [N] P(first > second) under any judge; see `Judge.preference`.
    exact: [N] the probabilities that labels are drawn by.

  Returns:
    The expected accuracy and negative log-likelihood, which is infinite if a
    prediction rules out a possible label.
  """
  q, p = np.asarray(predicted, np.float64), np.asarray(exact, np.float64)
  right = np.where(q > 0.5, p, np.where(q < 0.5, 1 - p, 0.5))
  with np.errstate(divide="ignore", invalid="ignore"):
    nll = -_times(p, np.log(q)) - _times(1 - p, np.log1p(-q))
  return Limit(float(np.mean(right)), float(np.mean(nll)))


def bayes(exact: ArrayLike) -> Limit:
  """What nobody can exceed on labels that are drawn by exact probabilities."""
  return expected(exact, exact)


class Limits(NamedTuple):
  """The limits of two kinds of models on the labels of the population.

  Attributes:
    shared: of models that don't know who labelled a pair.
    grouped: of models that know the rater's group.
  """

  shared: Limit
  grouped: Limit


def limits(posts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Limits:
  """The limits on some pairs that are labelled by draws of raters.

  Args:
    posts: N texts.
    a: N summaries.
    b: N summaries.
  """
  of_a, of_b = attributes(posts, a), attributes(posts, b)
  own = [bayes(group(of_a, of_b)) for group in GROUPS.values()]
  return Limits(
    bayes(population_rater(of_a, of_b)),
    Limit(*(np.array(WEIGHTS) @ np.array(own)).tolist()),
  )


def bradley_terry_fit(
  preference: ArrayLike, steps: int = 100
) -> tuple[np.ndarray, Limit]:
  """The scores that predict the labels of all ordered pairs best.

  No Bradley-Terry model of these responses, however much data it has seen, has
  a lower negative log-likelihood; where preferences cycle, it stays above that
  of `bayes`.

  Args:
    preference: [n, n] exact P(i > j) of responses to one prompt, with
      P(i > j) + P(j > i) = 1 and no probability of 0 or 1; the diagonal doesn't
      count.
    steps: number of Newton steps.

  Returns:
    ([n] scores of mean 0, what they reach on labels of all pairs).
  """
  p = np.asarray(preference, np.float64)
  n = len(p)
  pairs = ~np.eye(n, dtype=bool)
  scores = np.zeros(n)
  for _ in range(steps):
    q = _sigmoid(scores[:, None] - scores[None])
    slope = np.where(pairs, q - p, 0.0).sum(1)
    curve = np.where(pairs, q * (1 - q), 0.0)
    hessian = np.diag(curve.sum(1)) - curve
    # Scores are determined up to a constant, which the added ones fix.
    scores = scores - np.linalg.solve(hessian + 1.0, slope)
    scores -= scores.mean()
  q = _sigmoid(scores[:, None] - scores[None])
  return scores, expected(q[pairs], p[pairs])


def _times(share: np.ndarray, value: np.ndarray) -> np.ndarray:
  """share * value, 0 where the share is 0 and the value is infinite."""
  return np.where(share == 0, 0.0, share * value)


def _sigmoid(x: np.ndarray) -> np.ndarray:
  return 0.5 * (1 + np.tanh(0.5 * x))
