"""Asks the judge of a round, and collects the judge's answers.

There are P prompts, K responses to each, and J pairs of draws to compare.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign.errors import UserError
from jalign.feedback import (
  Assessed,
  Judge,
  assess,
  compare,
  make_answers,
)
from jalign.feedback.answers import Row
from jalign.feedback.values import read
from jalign.types import Rollout


class Needs(NamedTuple):
  """What an algorithm asks of a judge.

  Attributes:
    preference: pairs of draws, by their places from 0, whose responses are
      compared.
    reward: whether the algorithm needs rewards.
    cost: whether the algorithm needs costs.
  """

  preference: tuple[tuple[int, int], ...] = ()
  reward: bool = False
  cost: bool = False


class Verdict(NamedTuple):
  """A judge's answers about a round's responses.

  Attributes:
    assessed: the responses with their rewards and costs: all responses of the
      first draw, then all of the second draw, and so on.
    rewards: [P, K] float64; None where the judge has no reward.
    costs: [P, K] float64; None where the judge has no cost.
    preference: [P, J] float32 P(the first > the second).
  """

  assessed: Assessed
  rewards: np.ndarray | None
  costs: np.ndarray | None
  preference: np.ndarray


def check_judge(
  judge: Judge, needs: Needs, name: str, where: str = "annotator"
) -> None:
  """Checks that a judge has the functions that an algorithm needs.

  Args:
    judge: the judge that will be asked.
    needs: needs of the algorithm.
    name: name of the algorithm, for the error.
    where: place for the error, such as a config key.

  Raises:
    UserError: the judge lacks a function, which the error names.
  """
  wanted = {
    "a preference or a reward": not needs.preference
    or judge.preference is not None
    or judge.reward is not None,
    "a reward": not needs.reward or judge.reward is not None,
    "a cost": not needs.cost or judge.cost is not None,
  }
  lacking = [what for what, there in wanted.items() if not there]
  if lacking:
    raise UserError(
      f"{name} needs a judge with {' and '.join(lacking)}, which this judge"
      " doesn't have.",
      where=where,
      remedy=f"Name a function that gives {' and '.join(lacking)}, or choose"
      " another algorithm.",
    )


def check_places(needs: Needs, count: int) -> None:
  """Checks that an algorithm makes the draws that it compares.

  Args:
    needs: needs of the algorithm.
    count: K, number of draws of the algorithm.

  Raises:
    UserError: there are no draws, or a draw is compared that isn't made.
  """
  if not count:
    raise UserError("the algorithm draws nothing.", where="draws")
  for pair in needs.preference:
    if not all(0 <= place < count for place in pair):
      raise UserError(
        f"the algorithm compares draws {pair[0]} and {pair[1]} of a prompt, but"
        f" makes only {count}, counted from 0.",
        where="needs.preference",
        remedy="Name places of draws that the algorithm makes.",
      )


def judge_responses(
  judge: Judge,
  needs: Needs,
  prompts: Sequence[str],
  responses: Sequence[str],
  rollout: Rollout,
  rows: Sequence[Row] | None = None,
) -> Verdict:
  """Asks the judge once for each response's numbers, and for preferences.

  Args:
    judge: a judge with the functions that are needed.
    needs: needs of the algorithm.
    prompts: P texts.
    responses: P * K texts, the responses of a prompt adjacent.
    rollout: the same P * K responses as tokens.
    rows: P rows of the data; None where the data has no other columns.

  Returns:
    The verdict.

  Raises:
    UserError: a function of the judge returns something unusable.
  """
  count = len(prompts)
  size = len(responses) // count
  # The order of the answers: all of the first draw, then all of the next.
  places = np.arange(count * size).reshape(count, size).T.reshape(-1)
  answers = make_answers(
    [*prompts] * size,
    [responses[i] for i in places.tolist()],
    None if rows is None else [*rows] * size,
    jax.tree.map(lambda x: x[places], rollout.sequences)
    if judge.reads_tokens
    else None,
  )
  assessed = assess(judge, answers)
  side = lambda k: assessed.take(k * count + np.arange(count))
  preference = np.zeros((count, len(needs.preference)), np.float32)
  for at, (i, j) in enumerate(needs.preference):
    preference[:, at] = compare(judge, side(i), side(j))
  return Verdict(
    assessed,
    _by_prompt(assessed.reward, "reward", size),
    _by_prompt(assessed.cost, "cost", size),
    preference,
  )


def _by_prompt(values: Any, name: str, size: int) -> np.ndarray | None:
  if values is None:
    return None
  return read(values, name).reshape(size, -1).T.copy()
