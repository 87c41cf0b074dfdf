"""Simulated annotators: noisy labels and pools of raters, as AlpacaFarm's.

Dubois et al. 2023, "AlpacaFarm: A Simulation Framework for Methods that Learn
from Human Feedback", arXiv:2305.14387.

A draw is a hash of the seed, the prompt and both responses, whichever of them
comes first. So a pair has the same label whenever it is asked, in either order
and on any process: P(a > b) + P(b > a) = 1.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np

from jalign.errors import UserError
from jalign.feedback.answers import Answers
from jalign.feedback.judge import Judge
from jalign.feedback.nested import Judges, check_has, prefer, shares, whole


def draws(
  seed: int,
  name: str,
  prompts: Sequence[str],
  a: Sequence[str],
  b: Sequence[str],
) -> np.ndarray:
  """[N] numbers, uniform in [0, 1), of pairs; the order of a pair is no matter.

  Args:
    seed: seed of all draws.
    name: what is drawn; draws of two names are independent.
    prompts: N prompts.
    a: N responses.
    b: N other responses.
  """

  def draw(prompt: str, first: str, second: str) -> float:
    key = json.dumps([seed, name, prompt, *sorted((first, second))])
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53

  return np.array([draw(*three) for three in zip(prompts, a, b, strict=True)])


def noisy(
  judge: Judge,
  *,
  share: float = 0.25,
  seed: int = 0,
  where: str = "annotator",
) -> Judge:
  """A judge some of whose labels are drawn by a coin.

  With probability 2 share a pair's label is a coin's, so `share` of the labels
  are wrong: a judge who is always right agrees with himself on 1 - share of the
  pairs, and a true win rate q is seen as 1/2 + (1 - 2 share) (q - 1/2).
  AlpacaFarm has a share of 1/4 in training and none in evaluation. Responses of
  the same text keep the judge's preference.

  Args:
    judge: a judge with a preference or a reward. The reward is kept without
      noise for reports; what is learned from must be the preference.
    share: share of wrong labels, in [0, 1/2].
    seed: seed of the draws.
    where: config key, for errors.

  Raises:
    UserError: the share is out of range, or the judge compares nothing.
  """
  if not 0 <= share <= 0.5:
    raise UserError(
      f"{share} is outside [0, 1/2].",
      where=f"{where}.share",
      remedy="A coin for every label flips half of them.",
    )
  of = whole({"": judge}, where)
  check_has({"": judge}, "preference", where)

  def preference(a: Answers, b: Answers) -> np.ndarray:
    given = prefer(judge, a, b, of)
    texts = a.prompts, a.texts, b.texts
    by_coin = draws(seed, "whether", *texts) < 2 * share
    heads = draws(seed, "coin", *texts) < 0.5
    first = np.array([x < y for x, y in zip(a.texts, b.texts)], bool)
    same = np.array([x == y for x, y in zip(a.texts, b.texts)], bool)
    label = (heads == first).astype(np.float64)
    return np.where(by_coin & ~same & ~np.isnan(given), label, given)

  return judge._replace(preference=preference)


def pool(
  judges: Judges,
  *,
  weights: Mapping[str, float] | None = None,
  seed: int = 0,
  where: str = "annotator",
) -> Judge:
  """Judges each pair by one judge of a pool, drawn by its weight.

  A mixture gives the pool's mean preference; here a pair has one rater's.

  Args:
    judges: judges with preferences or rewards, by their names.
    weights: sizes of the groups, >= 0; None draws all alike.
    seed: seed of the draws.
    where: config key, for errors.

  Raises:
    UserError: a judge compares nothing, or the weights aren't one for each.
  """
  of = whole(judges, where)
  check_has(judges, "preference", where)
  ends = np.cumsum(list(shares(weights, judges, f"{where}.weights").values()))

  def preference(a: Answers, b: Answers) -> np.ndarray:
    draw = draws(seed, "rater", a.prompts, a.texts, b.texts)
    rater = np.minimum(np.searchsorted(ends, draw, "right"), len(ends) - 1)
    found = np.full(len(draw), np.nan)
    for i, judge in enumerate(judges.values()):
      at = np.flatnonzero(rater == i)
      if at.size:
        found[at] = prefer(judge, a.take(at), b.take(at), of)
    return found

  return of.judge(preference=preference)
