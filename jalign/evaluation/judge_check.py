"""What a judge is worth: labelled pairs that it has judged in both orders.

Wang et al. 2023, "Large Language Models are not Fair Evaluators",
arXiv:2305.17926: a judge that prefers a place gives the same two responses
different verdicts in the two orders.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError
from jalign.evaluation import reward_accuracy
from jalign.evaluation.calibration import agreement
from jalign.evaluation.clustered import Mean, clustered_share, take
from jalign.evaluation.reward_accuracy import Bin, LengthBias
from jalign.evaluation.scored_pairs import ScoredPairs, from_probabilities


class JudgeCheck(NamedTuple):
  """How a judge judged N labelled pairs, each in both orders.

  All means have 95 % intervals, clustered by prompt. A verdict is the response
  whose preference is over 1/2, or a tie. A mean over nothing is NaN.

  Attributes:
    pairs: N.
    prompts: number of prompts of these pairs.
    unanswered: number of the 2N questions that got no answer.
    both: number of pairs with an answer in both orders; what follows is of
      these, and the pair's preference is the mean over both orders.
    conflict: share of the pairs whose verdicts in the two orders differ; a tie
      in one order alone is a conflict, too.
    reversed: share of the pairs whose verdicts name the two responses.
    first_place: share of verdicts for the place shown first, ties one half; 1/2
      is no bias.
    order_effect: log-odds that the first place adds, half the mean difference
      between the orders; None where a preference is 0 or 1, as of verdicts.
    tied: share of the pairs with the mean preference 1/2.
    agreement: share of the labels that the mean preference agrees with, ties
      one half.
    agreement_first: the same for the order with the chosen response first.
    agreement_second: the same for the other order.
    length: preference for the longer response, beside the labels'; None without
      lengths.
    by_length: bins of pairs by their difference of lengths.
    scored: the pairs with the mean preferences, for other statistics.
  """

  pairs: int
  prompts: int
  unanswered: int
  both: int
  conflict: Mean
  reversed: Mean
  first_place: Mean
  order_effect: float | None
  tied: Mean
  agreement: Mean
  agreement_first: Mean
  agreement_second: Mean
  length: LengthBias | None
  by_length: list[Bin]
  scored: ScoredPairs


def check_judge(
  first: ArrayLike, second: ArrayLike, **known: Any
) -> JudgeCheck:
  """Computes the statistics of a judge.

  Args:
    first: [N] P(the chosen response is preferred) when it is shown first; NaN
      for no answer.
    second: [N] the same probability when it is shown second.
    **known: of the N pairs: labels, chosen_tokens, rejected_tokens (lengths in
      any unit) and groups, as in `scored_pairs.from_scores`.

  Raises:
    UserError: a value is no probability, numbers of pairs differ, or no pair is
      answered in both orders.
  """
  p, q = (np.asarray(x, np.float64) for x in (first, second))
  if p.shape != q.shape or p.ndim != 1 or not p.size:
    raise UserError(
      f"preferences of shapes {p.shape} and {q.shape} aren't of N pairs in two"
      " orders.",
      where="pairs",
    )
  for name, x in (("first", p), ("second", q)):
    bad = np.flatnonzero((x < 0) | (x > 1))
    if bad.size:
      raise UserError(
        f"{x[bad[0]]} is not a probability.", where=f"{name}[{bad[0]}]"
      )
  unanswered = int(np.isnan(p).sum() + np.isnan(q).sum())
  both = np.flatnonzero(~np.isnan(p + q))
  if not both.size:
    raise UserError(
      f"the judge answered about none of {p.size} pairs in both orders.",
      where="judge",
      remedy="Look at its answers to a few pairs: they may have another form"
      " than what reads them expects.",
    )
  groups = known.get("groups")
  scored = from_probabilities((p + q) / 2, **known)
  p, q, near = p[both], q[both], take(groups, both)
  labels = scored.labels
  verdict = np.sign(p - 0.5), np.sign(q - 0.5)
  share = lambda x: clustered_share(x, near)
  inside = ((p > 0) & (p < 1) & (q > 0) & (q < 1)).all()
  odds = lambda x: np.log(x) - np.log1p(-x)
  ids = range(len(np.asarray(first))) if groups is None else groups
  return JudgeCheck(
    pairs=len(np.asarray(first)),
    prompts=len(set(ids)),
    unanswered=unanswered,
    both=both.size,
    conflict=share(verdict[0] != verdict[1]),
    reversed=share(verdict[0] * verdict[1] < 0),
    first_place=share(0.5 + (verdict[0] - verdict[1]) / 4),
    order_effect=float(np.mean(odds(p) - odds(q)) / 2) if inside else None,
    tied=share(scored.margins == 0),
    agreement=reward_accuracy.accuracy(scored),
    agreement_first=share(agreement(p - 0.5, labels)),
    agreement_second=share(agreement(q - 0.5, labels)),
    length=reward_accuracy.length_bias(scored),
    by_length=reward_accuracy.by_length(scored),
    scored=scored,
  )


def warnings(check: JudgeCheck) -> list[str]:
  """Sentences on what makes a judge useless as it is."""
  found = []
  if check.tied.mean == 1 and check.conflict.mean == 0:
    found.append(
      "The judge finds the two responses of every pair equally good."
    )
  if check.reversed.mean == 1:
    found.append(
      "The judge's verdict is always about the place, never about the response."
    )
  elif (
    check.first_place.interval[0] > 0.5 or check.first_place.interval[1] < 0.5
  ):
    place = "first" if check.first_place.mean > 0.5 else "second"
    found.append(
      f"The judge prefers the place shown {place}: ask in both orders and"
      " average."
    )
  if check.agreement.interval[1] < 0.5:
    found.append(
      "The judge contradicts the labels: a sign, or the columns of the pairs,"
      " may be the wrong way round."
    )
  return found


def numbers(check: JudgeCheck) -> dict[str, Any]:
  """The statistics by name, for JSON: {"mean", "low", "high"} or numbers."""
  told = reward_accuracy.told
  values: dict[str, Any] = {
    name: value
    for name, value in check._asdict().items()
    if isinstance(value, int | float)
  }
  values |= {
    name: dict(told(value))
    for name, value in check._asdict().items()
    if isinstance(value, Mean)
  }
  if check.length is not None:
    values["length"] = {
      name: dict(told(value)) if isinstance(value, Mean) else value
      for name, value in check.length._asdict().items()
    }
  return values
