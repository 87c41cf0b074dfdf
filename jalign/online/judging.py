"""What the judge of a round is asked, and what it says.

P prompts, K responses to each, J pairs of draws that are compared.
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
    preference: pairs of places among the draws whose responses are compared.
    reward: whether it takes rewards.
    cost: whether it takes costs.
  """

  preference: tuple[tuple[int, int], ...] = ()
  reward: bool = False
  cost: bool = False


class Verdict(NamedTuple):
  """What a judge says of a round's responses.

  Attributes:
    assessed: the responses with their numbers, all of the first draw, then all
      of the second, and so on.
    rewards: [P, K] float64, None where the judge has no reward.
    costs: [P, K] float64, None where the judge has no cost.
    preference: [P, J] float32 P(the first > the second).
  """

  assessed: Assessed
  rewards: np.ndarray | None
  costs: np.ndarray | None
  preference: np.ndarray


def check_judge(
  judge: Judge, needs: Needs, name: str, where: str = "annotator"
) -> None:
  """Checks that a judge can say what an algorithm asks.

  Args:
    judge: to be asked.
    needs: of the algorithm.
    name: of the algorithm.
    where: for the error.

  Raises:
    UserError: it lacks a function; says which.
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
      f"{name} needs a judge with {' and '.join(lacking)}, and this one has"
      " none.",
      where=where,
      remedy="Name a function that gives it, or choose another algorithm.",
    )


def check_places(needs: Needs, count: int) -> None:
  """Checks that what is compared is drawn.

  Args:
    needs: of the algorithm.
    count: K, of its draws.

  Raises:
    UserError: there are no draws, or fewer than are compared.
  """
  if not count:
    raise UserError("the algorithm draws nothing.", where="draws")
  for pair in needs.preference:
    if not all(0 <= place < count for place in pair):
      raise UserError(
        f"the algorithm compares draws {pair[0]} and {pair[1]} of a prompt, and"
        f" makes {count}, counted from 0.",
        where="needs.preference",
        remedy="Name places among its draws.",
      )


def judge_responses(
  judge: Judge,
  needs: Needs,
  prompts: Sequence[str],
  responses: Sequence[str],
  rollout: Rollout,
  rows: Sequence[Row] | None = None,
) -> Verdict:
  """Asks the judge for the numbers of each response once, and for preferences.

  Args:
    judge: has what is needed.
    needs: of the algorithm.
    prompts: P texts.
    responses: P * K texts, those of a prompt adjacent.
    rollout: the same P * K, as tokens.
    rows: P rows of the data, None where it has no other columns.
  """
  count = len(prompts)
  size = len(responses) // count
  # All of one draw, then all of the next.
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
