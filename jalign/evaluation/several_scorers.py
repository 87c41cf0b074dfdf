"""Several scorers of the same pairs: objectives, seeds, ensembles."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError
from jalign.evaluation.calibration import agreement
from jalign.evaluation.clustered import (
  Mean,
  clustered_mean,
  clustered_share,
  take,
)


class Objectives(NamedTuple):
  """Scores by several objectives, such as the outputs of a head.

  Attributes:
    names: M names of objectives.
    pairs: [M] number of pairs that are labelled by an objective.
    accuracy: M accuracies of an objective's margins on its own labels.
    across: [M, M] accuracy of row's margins on column's labels; NaN where a
      column has no labels.
    correlation: [M, M] correlation of margins, over both orders of each pair.
    labelled: [M, M] the same of the labels, over pairs that both label; NaN
      where there are none.
  """

  names: tuple[str, ...]
  pairs: np.ndarray
  accuracy: tuple[Mean, ...]
  across: np.ndarray
  correlation: np.ndarray
  labelled: np.ndarray


class Ensemble(NamedTuple):
  """Scorers that differ by their seeds, or members of an ensemble.

  Attributes:
    accuracy: R accuracies of the members.
    of_mean: accuracy of the members' mean margin.
    gain: `of_mean` minus the mean of the members' accuracies, pair by pair.
    agreement: [R, R] share of the pairs that two members rank alike; a pair
      that one of them ties counts half.
    unanimous: share of the pairs that all members rank alike, without ties.
    right_if_unanimous: accuracy on these pairs; None if there are none.
    right_if_split: accuracy of the mean margin on the others; None if there are
      none.
    spread: mean over pairs of the margins' standard deviation over members
      (dividing by R), in the margins' unit.
  """

  accuracy: tuple[Mean, ...]
  of_mean: Mean
  gain: Mean
  agreement: np.ndarray
  unanimous: float
  right_if_unanimous: Mean | None
  right_if_split: Mean | None
  spread: float


def objectives(
  margins: ArrayLike,
  labels: ArrayLike,
  names: Sequence[str],
  groups: Sequence[Any] | np.ndarray | None = None,
) -> Objectives:
  """Accuracies and correlations of several objectives.

  Which response of a pair is called the first is arbitrary, so a correlation is
  taken over both orders: of means that are 0, it is a cosine.

  Args:
    margins: [N, M] score of the first response minus that of the second.
    labels: [N, M] P(the first response is better) by each objective; NaN where
      an objective has no label.
    names: M names.
    groups: N hashable ids of prompts; None for N different prompts.

  Raises:
    UserError: shapes differ.
  """
  x, y = np.asarray(margins, np.float64), np.asarray(labels, np.float64)
  if x.ndim != 2 or x.shape != y.shape or x.shape[1] != len(names):
    raise UserError(
      f"there are {len(names)} objectives, margins of shape {x.shape} and"
      f" labels of shape {y.shape}.",
      where="objectives",
      remedy="Give [N, M] margins and labels.",
    )
  known = ~np.isnan(y)
  count = len(names)
  across = np.full((count, count), np.nan)
  accuracies = []
  for j in range(count):
    at = np.flatnonzero(known[:, j])
    right = agreement(x[at], y[at, j : j + 1])
    shares = [
      clustered_share(right[:, i], take(groups, at)) for i in range(count)
    ]
    accuracies.append(shares[j])
    across[:, j] = [share.mean for share in shares]
  sides = np.where(known, 2 * y - 1, 0.0)
  return Objectives(
    tuple(names),
    known.sum(0),
    tuple(accuracies),
    across,
    _cosines(x, np.ones_like(known)),
    _cosines(sides, known),
  )


def ensemble(
  margins: ArrayLike,
  labels: ArrayLike | None = None,
  groups: Sequence[Any] | np.ndarray | None = None,
) -> Ensemble:
  """How several scorers agree on pairs, and whether agreement is a good sign.

  Args:
    margins: [R, N] margins of R scorers on N pairs, positive where the chosen
      response is preferred.
    labels: [N] P(the chosen response is preferred); None for certain labels.
    groups: N hashable ids of prompts; None for N different prompts.

  Raises:
    UserError: there are fewer than two scorers.
  """
  x = np.asarray(margins, np.float64)
  if x.ndim != 2 or len(x) < 2:
    raise UserError(
      f"margins of shape {x.shape} are not those of two or more scorers.",
      where="ensemble",
    )
  p = np.ones(x.shape[1]) if labels is None else np.asarray(labels, np.float64)
  signs, middle = np.sign(x), agreement(x.mean(0), p)
  right = agreement(x, p)
  alike = np.abs(signs.sum(0)) == len(x)

  def among(at: np.ndarray) -> Mean | None:
    found = np.flatnonzero(at)
    if not found.size:
      return None
    return clustered_share(middle[found], take(groups, found))

  return Ensemble(
    accuracy=tuple(clustered_share(row, groups) for row in right),
    of_mean=clustered_share(middle, groups),
    gain=clustered_mean(middle - right.mean(0), groups),
    agreement=0.5 + 0.5 * (signs @ signs.T) / x.shape[1],
    unanimous=float(alike.mean()),
    right_if_unanimous=among(alike),
    right_if_split=among(~alike),
    spread=float(x.std(0).mean()),
  )


def _cosines(x: np.ndarray, known: np.ndarray) -> np.ndarray:
  """[M, M] cosines of the columns of [N, M], over rows that both know."""
  x = np.where(known, x, 0.0)
  known = known.astype(np.float64)
  squares = (x * x).T @ known
  with np.errstate(invalid="ignore", divide="ignore"):
    return (x.T @ x) / np.sqrt(squares * squares.T)
