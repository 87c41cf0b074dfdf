"""Preferences on which several judges agree: the others have no answer.

Zhou et al. 2025, "Self-Consistency of the Internal Reward Models Improves
Self-Rewarding Language Models", arXiv:2502.08922, trains a policy by DPO only
on the pairs on which its internal reward models agree: its grades as a
generative judge, and its implicit DPO reward. Here is that filter. The penalty
by which that paper pulls the internal models together isn't here, since its
exact form isn't established.
"""

import numpy as np

from jalign.errors import UserError
from jalign.feedback.answers import Answers
from jalign.feedback.counts import Tally, merged
from jalign.feedback.judge import Judge
from jalign.feedback.nested import Judges, check_has, prefer, whole


def agreed(preferences: np.ndarray) -> np.ndarray:
  """[N] whether all of M judges prefer the same response of a pair.

  Args:
    preferences: [M, N] P(a is preferred) of each judge; NaN for no answer. A
      judge who has no answer, or finds a tie, agrees with nobody.
  """
  given = np.asarray(preferences)
  return np.all(given > 0.5, 0) | np.all(given < 0.5, 0)


def best_and_worst(ratings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Indices of the best and the worst of K responses to each of P prompts.

  Args:
    ratings: [P, K] ratings, such as those of a self-rewarding judge; NaN for a
      response without an answer, which is neither.

  Returns:
    ([P], [P]) int; -1 in both where fewer than two ratings differ: such a
    prompt makes no pair. The first of several equal ones is taken.
  """
  given = np.asarray(ratings, np.float64)
  missing = np.isnan(given)
  best = np.where(missing, -np.inf, given)
  worst = np.where(missing, np.inf, given)
  differ = best.max(1) > worst.min(1)
  none = np.full(len(given), -1)
  return (
    np.where(differ, best.argmax(1), none),
    np.where(differ, worst.argmin(1), none),
  )


def agreeing(judges: Judges, *, where: str = "annotator") -> Judge:
  """Makes a judge of the mean preference of judges who agree.

  A pair on which they don't agree has no answer: it has no weight in training,
  is left out of win rates, and is counted.

  Args:
    judges: two or more judges by their names, each with a preference or a
      reward.
    where: config key, for errors.

  Raises:
    UserError: there are fewer than two judges, or one compares nothing.
  """
  if len(judges) < 2:
    raise UserError(
      "a judge alone agrees with itself.",
      where=where,
      remedy="Name two judges or more.",
    )
  check_has(judges, "preference", where)
  of, tally = whole(judges, where), Tally()

  def preference(a: Answers, b: Answers) -> np.ndarray:
    all_of = np.stack([prefer(j, a, b, of) for j in judges.values()])
    kept = agreed(all_of)
    tally.add({"pairs": len(kept), "pairs agreed on": int(kept.sum())})
    return np.where(kept, all_of.mean(0), np.nan)

  counts = lambda: merged(tally.counts(), of.counts() if of.counts else {})
  return of.judge(preference=preference, answers_all=False, counts=counts)
