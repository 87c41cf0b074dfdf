"""Judgements of both orders and of several samples, averaged (FairEval).

Wang et al. 2023, "Large Language Models are not Fair Evaluators",
arXiv:2305.17926: k pieces of evidence in each order of the two responses
(multiple evidence, balanced positions), and people for the pairs on which the
2k verdicts differ most (entropy).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError
from jalign.feedback.answers import Answers
from jalign.feedback.judge import Judge
from jalign.feedback.nested import check_has, prefer, whole

# (first shown, second shown, number of the sample) -> [N, 2] scores of these
Score = Callable[[Answers, Answers, int], ArrayLike]


def mean_scores(in_order: ArrayLike, swapped: ArrayLike) -> np.ndarray:
  """[N, 2] mean scores of a and b over both orders and all samples.

  An additive bonus for the place cancels in the difference of the means.

  Args:
    in_order: [N, k, 2] scores of (a, b), a shown first; NaN for no answer.
    swapped: [N, k, 2] scores of (a, b), b shown first: already exchanged back.

  Returns:
    [N, 2] means of the order's means; NaN where an order has no answer, since
    one order alone has its bias.
  """
  return (_mean(in_order) + _mean(swapped)) / 2


def verdicts(in_order: ArrayLike, swapped: ArrayLike) -> np.ndarray:
  """[N, 2k] verdicts of all samples: 1 for a, 0 for b, 1/2 for a tie, or NaN.

  Arguments are those of `mean_scores`.
  """
  both = [np.asarray(x, np.float64) for x in (in_order, swapped)]
  scores = np.concatenate(both, 1)
  return 0.5 + 0.5 * np.sign(scores[..., 0] - scores[..., 1])


def verdict_entropy(given: ArrayLike) -> np.ndarray:
  """[N] entropies (nats) of the shares of wins, ties and losses.

  0 where all samples in both orders agree; log 2 where the first place always
  wins.

  Args:
    given: [N, 2k] verdicts; NaN is left out; no verdict at all has NaN.
  """
  verdict = np.asarray(given, np.float64)
  counts = np.stack([(verdict == x).sum(1) for x in (1.0, 0.5, 0.0)], 1)
  total = counts.sum(1, keepdims=True)
  share = counts / np.maximum(total, 1)
  logs = np.log(np.where(share > 0, share, 1.0))
  return np.where(total[:, 0] > 0, -(share * logs).sum(1) + 0.0, np.nan)


def for_people(entropy: ArrayLike, share: float) -> np.ndarray:
  """Indices of the share of pairs that people should judge, first the worst.

  Args:
    entropy: [N] of `verdict_entropy`; NaN, a pair without verdict, comes first.
    share: in [0, 1]; the number of pairs is rounded.
  """
  if not 0 <= share <= 1:
    raise UserError(f"{share} is outside [0, 1].", where="share")
  values = np.nan_to_num(np.asarray(entropy, np.float64), nan=np.inf)
  order = np.argsort(-values, kind="stable")
  return order[: round(share * len(order))]


def from_evidence(
  score: Score, *, k: int = 3, scale: float | None = None
) -> Judge:
  """Makes a judge of a function that scores two responses side by side.

  Args:
    score: `(first, second, number) -> [N, 2]` scores in the order shown, such
      as those of a language model sampled at temperature 1; NaN for no answer.
    k: number of samples in each order.
    scale: P(a > b) = sigmoid(scale (difference of mean scores)); None for
      verdicts: 1, 1/2 or 0.

  Raises:
    UserError: k is less than 1.
  """
  if k < 1:
    raise UserError(f"{k} must be 1 or more.", where="k")

  def preference(a: Answers, b: Answers) -> np.ndarray:
    orders = []
    for first, second in ((a, b), (b, a)):
      given = [np.asarray(score(first, second, i), float) for i in range(k)]
      orders.append(np.stack(given, 1))
    means = mean_scores(orders[0], orders[1][..., ::-1])
    gap = means[:, 0] - means[:, 1]
    if scale is None:
      return 0.5 + 0.5 * np.sign(gap)
    return 0.5 * (1.0 + np.tanh(0.5 * scale * gap))

  return Judge(preference=preference, answers_all=False)


def mean_probability(in_order: np.ndarray, swapped: np.ndarray) -> np.ndarray:
  """The mean of P(a > b) in both orders: verdicts are averaged."""
  return (in_order + swapped) / 2


def mean_log_odds(in_order: np.ndarray, swapped: np.ndarray) -> np.ndarray:
  """P(a > b) at the mean of the log-odds in both orders: scores are averaged.

  A bonus for the place that is added to the log-odds cancels exactly.
  """
  p, q = (np.clip(x, 1e-12, 1 - 1e-12) for x in (in_order, swapped))
  odds = 0.5 * (np.log(p / (1 - p)) + np.log(q / (1 - q)))
  return 0.5 * (1.0 + np.tanh(0.5 * odds))


ORDERS = {"probability": mean_probability, "log_odds": mean_log_odds}


def both_orders(
  judge: Judge, *, mean: str = "probability", where: str = "annotator"
) -> Judge:
  """Asks a judge in both orders and averages, so that no place is preferred.

  A pair that is unanswered in one order has no answer.

  Args:
    judge: a judge with a preference.
    mean: a key of `ORDERS`.
    where: config key, for errors.

  Raises:
    UserError: the judge has no preference, or there is no such mean.
  """
  if mean not in ORDERS:
    raise UserError(
      f"{mean!r} is not one of {', '.join(ORDERS)}.", where=f"{where}.mean"
    )
  check_has({"": judge}, "preference", where)
  of = whole({"": judge}, where)

  def preference(a: Answers, b: Answers) -> np.ndarray:
    in_order = prefer(judge, a, b, of)
    return ORDERS[mean](in_order, 1 - prefer(judge, b, a, of))

  return judge._replace(preference=preference)


def _mean(scores: ArrayLike) -> np.ndarray:
  """[N, 2] means over k of scores [N, k, 2], of the samples with an answer."""
  x = np.asarray(scores, np.float64)
  answered = ~np.isnan(x).any(-1, keepdims=True)
  count = answered.sum(1)
  total = np.where(answered, x, 0.0).sum(1)
  return np.where(count > 0, total / np.maximum(count, 1), np.nan)
