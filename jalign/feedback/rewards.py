"""What a judge says: asked once a response, compared, described."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError
from jalign.feedback.answers import Answers
from jalign.feedback.judge import Judge
from jalign.feedback.values import probabilities, read, scores


@dataclasses.dataclass(frozen=True, eq=False)
class Assessed:
  """N answers with the numbers that a judge gave them.

  Attributes:
    answers: that were judged.
    reward: [N] float64, or an array on devices; None of a judge without.
    cost: the same.
  """

  answers: Answers
  reward: ArrayLike | None = None
  cost: ArrayLike | None = None

  def __len__(self) -> int:
    return len(self.answers.texts)

  def take(self, at: Sequence[int] | np.ndarray) -> "Assessed":
    """Some of the answers with their numbers, by their places."""
    at = np.asarray(at)
    told = ((k, getattr(self, k)) for k in ("reward", "cost"))
    numbers = {k: v if v is None else v[at] for k, v in told}
    return Assessed(self.answers.take(at), **numbers)


def assess(judge: Judge, answers: Answers) -> Assessed:
  """The numbers of each response: the judge is asked for them once.

  Raises:
    UserError: a function returns something else than N finite numbers. What
      stays on devices is looked at where it is read.
  """
  count = len(answers.texts)
  asked = {"reward": judge.reward, "cost": judge.cost}
  return Assessed(
    answers,
    **{
      name: scores(function(answers), count, name)
      for name, function in asked.items()
      if function is not None
    },
  )


def compare(judge: Judge, a: Assessed, b: Assessed) -> np.ndarray:
  """[N] float32 P(a is preferred); rewards aren't asked for again.

  Args:
    judge: of a preference or a reward.
    a: of `assess`.
    b: answers to the same prompts.

  Raises:
    UserError: the judge compares nothing, or gives no probabilities.
  """
  if judge.preference is not None:
    return probabilities(judge.preference(a.answers, b.answers), len(a))
  if a.reward is None or b.reward is None:
    raise UserError(
      "the judge has neither a preference nor a reward: it compares nothing.",
      where="annotator",
    )
  margin = judge.scale * (read(a.reward, "reward") - read(b.reward, "reward"))
  return probabilities(0.5 * (1.0 + np.tanh(0.5 * margin)), len(a))


def reward_statistics(
  assessed: Assessed, prompt_ids: Sequence[int] | np.ndarray
) -> dict[str, float]:
  """Mean and spread of rewards and of costs, in their units.

  Args:
    assessed: of N responses.
    prompt_ids: [N] number of each response's prompt, from 0.

  Returns:
    `reward_mean`; `reward_std`, over all responses, of two or more;
    `reward_std_within_prompt`, the root of the mean variance of a prompt's
    responses, where every prompt has two or more; and the same of `cost`.
    Variances divide by n - 1. Nothing is said of a preference.
  """
  statistics: dict[str, float] = {}
  ids = np.asarray(prompt_ids)
  for name in ("reward", "cost"):
    given = getattr(assessed, name)
    if given is None or not len(assessed):
      continue
    values = read(given, name)
    statistics[f"{name}_mean"] = float(values.mean())
    if values.size > 1:
      statistics[f"{name}_std"] = float(values.std(ddof=1))
    groups = [values[ids == i] for i in np.unique(ids)]
    if min(map(len, groups)) > 1:
      variance = np.mean([group.var(ddof=1) for group in groups])
      statistics[f"{name}_std_within_prompt"] = float(np.sqrt(variance))
  return statistics
