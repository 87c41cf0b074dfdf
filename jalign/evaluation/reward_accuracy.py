"""How well a reward model, a preference model or a judge predicts labels.

Errors are clustered by prompt. Means are over prompts of each prompt's mean, as
in `win_rate`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jalign.evaluation.calibration import (
  agreement,
  equal_mass_bins,
  reliability,
)
from jalign.evaluation.clustered import (
  Mean,
  clustered_mean,
  clustered_share,
  take,
)
from jalign.evaluation.scored_pairs import ScoredPairs


class Bin(NamedTuple):
  """Pairs whose gap, of scores or of lengths, lies between two numbers.

  Attributes:
    low: the smallest gap of the pairs.
    high: the largest gap of the pairs.
    middle: the mean gap of the pairs.
    pairs: number of pairs.
    accuracy: share of the labels that the scorer agrees with; ties count 1/2.
    longer: share of the pairs whose longer response the scorer prefers; None
      where gaps aren't lengths.
    labelled_longer: share of the pairs whose longer response the labels prefer;
      None where gaps aren't lengths.
  """

  low: float
  high: float
  middle: float
  pairs: int
  accuracy: Mean
  longer: Mean | None = None
  labelled_longer: Mean | None = None


class LengthBias(NamedTuple):
  """How a scorer's preference depends on the length of responses.

  Attributes:
    pairs: number of pairs whose responses differ in length; only these count.
    scorer: share of them whose longer response the scorer prefers.
    labels: share of them whose longer response the labels prefer.
    difference: scorer minus labels, pair by pair; positive if the scorer
      prefers length more than its labels do.
    chosen_longer: accuracy where the chosen response is the longer one.
    chosen_shorter: accuracy where the chosen response is the shorter one.
  """

  pairs: int
  scorer: Mean
  labels: Mean
  difference: Mean
  chosen_longer: Mean
  chosen_shorter: Mean


class BayesGap(NamedTuple):
  """What a scorer loses to whoever knows the exact probabilities of labels.

  Attributes:
    accuracy: expected accuracy of the scorer on labels that are drawn anew.
    best_accuracy: the same of the exact probabilities; no scorer has more.
    accuracy_gap: best minus own accuracy, pair by pair; never negative.
    nll_gap: KL divergence from the exact to the scorer's preferences, nats a
      pair; never negative.
  """

  accuracy: Mean
  best_accuracy: Mean
  accuracy_gap: Mean
  nll_gap: Mean


def accuracy(pairs: ScoredPairs) -> Mean:
  """Share of the labels that the scorer agrees with; ties count 1/2."""
  return clustered_share(agreement(pairs.margins, pairs.labels), pairs.groups)


def negative_log_likelihood(pairs: ScoredPairs) -> Mean:
  """Mean of -log P(label) under the scorer's preferences, nats a pair.

  A pair has -p log sigmoid(m) - (1 - p) log sigmoid(-m), with margin m and
  label p. Bradley and Terry 1952; Ouyang et al. 2022, arXiv:2203.02155,
  equation 1. The mean is infinite if the scorer was certain of a wrong answer.
  """
  return _nats(_nll(pairs.margins, pairs.labels), pairs.groups)


def tied_share(pairs: ScoredPairs) -> float:
  """Share of the pairs that the scorer finds equally good."""
  return float(np.mean(pairs.margins == 0))


def by_gap(pairs: ScoredPairs, bins: int = 5) -> list[Bin]:
  """Accuracy by the size of the margin, in bins of equally many pairs.

  A bin without pairs is left out.
  """
  gap = np.abs(pairs.margins)
  return [
    _bin(pairs, gap, at) for at in _members(equal_mass_bins(gap, bins), bins)
  ]


def by_length(pairs: ScoredPairs, bins: int = 5) -> list[Bin]:
  """Accuracy, and the share of longer responses that win, by length gap.

  Args:
    pairs: pairs with lengths.
    bins: number of bins of equally many pairs; a bin without pairs, or whose
      pairs all have responses of one length, is left out.
  """
  longer = pairs.longer
  if longer is None:
    return []
  differ = longer != 0
  gap, found = np.abs(longer), []
  number = np.full(len(pairs), -1)
  # Equal gaps are in one bin, so that no two bins have the same limits.
  values, which = np.unique(gap[differ], return_inverse=True)
  lowest = np.full(len(values), bins)
  np.minimum.at(lowest, which, equal_mass_bins(gap[differ], bins))
  number[differ] = lowest[which]
  for at in _members(number, bins):
    own, labelled = _longer_wins(pairs, at)
    groups = take(pairs.groups, at)
    found.append(
      _bin(pairs, gap, at)._replace(
        longer=clustered_share(own, groups),
        labelled_longer=clustered_share(labelled, groups),
      )
    )
  return found


def length_bias(pairs: ScoredPairs) -> LengthBias | None:
  """The preference for length of a scorer, beside that of its labels.

  Labels may rightly prefer longer responses; a bias is the difference. None
  without lengths, or if no two responses of a pair differ in length.
  """
  longer = pairs.longer
  if longer is None or not longer.any():
    return None
  at = np.flatnonzero(longer)
  own, labelled = _longer_wins(pairs, at)
  groups = take(pairs.groups, at)
  right = agreement(pairs.margins, pairs.labels)
  share = lambda of: clustered_share(right[of], take(pairs.groups, of))
  return LengthBias(
    at.size,
    clustered_share(own, groups),
    clustered_share(labelled, groups),
    clustered_mean(own - labelled, groups),
    share(np.flatnonzero(longer > 0)),
    share(np.flatnonzero(longer < 0)),
  )


def by_rater(pairs: ScoredPairs) -> dict[Any, tuple[int, Mean]]:
  """Rater, or group of raters -> (number of pairs, accuracy on them)."""
  if pairs.raters is None:
    return {}
  right = agreement(pairs.margins, pairs.labels)
  members: dict[Any, list[int]] = {}
  for i, rater in enumerate(pairs.raters):
    members.setdefault(rater, []).append(i)
  return {
    rater: (
      len(at),
      clustered_share(right[at], take(pairs.groups, np.array(at))),
    )
    for rater, at in sorted(members.items(), key=lambda item: str(item[0]))
  }


def bayes_gap(pairs: ScoredPairs) -> BayesGap | None:
  """What the scorer loses to the labels' exact probabilities; None without."""
  q = pairs.exact
  if q is None:
    return None
  own, best = agreement(pairs.margins, q), np.maximum(q, 1 - q)
  mean = lambda x: clustered_share(x, pairs.groups)
  return BayesGap(
    mean(own),
    mean(best),
    clustered_mean(best - own, pairs.groups),
    _nats(_nll(pairs.margins, q) - _entropy(q), pairs.groups),
  )


def reference_score(scores: ArrayLike, groups: Any = None) -> Mean:
  """Mean score of reference responses, such as demonstrations.

  A reward model is shifted so that this mean is 0 (Stiennon et al. 2020,
  arXiv:2009.01325).

  Args:
    scores: [N] scores of references.
    groups: N hashable ids of prompts; None for N different prompts.
  """
  return clustered_mean(scores, groups)


def summary(pairs: ScoredPairs, bins: int = 10) -> dict[str, Any]:
  """The numbers of a scorer on labelled pairs, by their names.

  Names are rows of `jalign.glossary`, without a section. A value with an error
  is {"mean", "low", "high"}, of a 95 % interval; other values are numbers.
  """
  wide = reliability(
    pairs.margins, bins, labels=pairs.labels, groups=pairs.groups
  )
  equal = reliability(pairs.margins, bins, labels=pairs.labels, equal_mass=True)
  values: dict[str, Any] = {
    "score_accuracy": told(accuracy(pairs)),
    "score_nll_nats": told(negative_log_likelihood(pairs)),
    "score_calibration_ece": wide.ece,
    "score_calibration_mce": wide.mce,
    "score_calibration_ace": equal.ece,
    "score_tied_share": tied_share(pairs),
  }
  if pairs.chosen is not None and pairs.rejected is not None:
    both = (pairs.chosen + pairs.rejected) / 2
    values["score_mean"] = told(clustered_mean(both, pairs.groups))
  bias = length_bias(pairs)
  if bias is not None:
    values["score_longer_share"] = told(bias.scorer)
    values["label_longer_share"] = told(bias.labels)
  gap = bayes_gap(pairs)
  if gap is not None:
    values["score_bayes_accuracy"] = told(gap.best_accuracy)
    values["score_bayes_gap_share"] = told(gap.accuracy_gap)
    values["score_bayes_gap_nats"] = told(gap.nll_gap)
  return values


def told(mean: Mean) -> Mapping[str, float]:
  """A mean and its interval, as results.json has them."""
  low, high = (float(x) for x in mean.interval)
  return {"mean": float(mean.mean), "low": low, "high": high}


def _nats(values: np.ndarray, groups: Any) -> Mean:
  """`clustered_mean`; an infinite mean has no interval."""
  with np.errstate(invalid="ignore"):
    return clustered_mean(values, groups)


def _nll(margins: np.ndarray, p: np.ndarray) -> np.ndarray:
  """[N] cross-entropies; a label without probability has no part in them."""
  with np.errstate(invalid="ignore"):
    won = np.where(p > 0, p * np.logaddexp(0, -margins), 0.0)
    lost = np.where(p < 1, (1 - p) * np.logaddexp(0, margins), 0.0)
  return won + lost


def _entropy(p: np.ndarray) -> np.ndarray:
  """[N] entropies of events with the probabilities p, nats."""
  inside = np.clip(p, 1e-300, 1.0), np.clip(1 - p, 1e-300, 1.0)
  return -p * np.log(inside[0]) - (1 - p) * np.log(inside[1])


def _longer_wins(
  pairs: ScoredPairs, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Whether scorer and labels prefer the longer response, for some pairs."""
  longer = pairs.longer
  assert longer is not None  # callers saw to it
  sign = np.sign(longer[at])
  return agreement(pairs.margins[at] * sign, 1.0), 0.5 + sign * (
    pairs.labels[at] - 0.5
  )


def _members(number: np.ndarray, bins: int) -> list[np.ndarray]:
  """Indices of the members of each bin that has some."""
  every = [np.flatnonzero(number == i) for i in range(bins)]
  return [at for at in every if at.size]


def _bin(pairs: ScoredPairs, gap: np.ndarray, at: np.ndarray) -> Bin:
  right = agreement(pairs.margins[at], pairs.labels[at])
  return Bin(
    float(gap[at].min()),
    float(gap[at].max()),
    float(gap[at].mean()),
    at.size,
    clustered_share(right, take(pairs.groups, at)),
  )
