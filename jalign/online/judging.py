"""Asks the judge of a round, and collects the judge's answers.

There are P prompts, K responses to each, and J pairs of draws to compare.
"""

import functools
import itertools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import jax
import numpy as np

from jalign.errors import UserError
from jalign.feedback import (
  Answers,
  Assessed,
  Judge,
  assess,
  compare,
  make_answers,
)
from jalign.feedback.answers import Row
from jalign.online.unfinished import KEPT, Unfinished
from jalign.sharding import fetch
from jalign.types import Rollout, Sequences

Pairs = tuple[tuple[int, int], ...]


class Needs(NamedTuple):
  """What an algorithm asks of a judge.

  Attributes:
    preference: pairs of draws, by their places from 0, whose responses are
      compared; or a function of K, the number of draws, that gives them.
    reward: whether the algorithm needs rewards.
    cost: whether the algorithm needs costs.
    segments: whether the algorithm needs rewards of a response's segments.
  """

  preference: Pairs | Callable[[int], Pairs] = ()
  reward: bool = False
  cost: bool = False
  segments: bool = False

  def pairs(self, draws: int) -> Pairs:
    """The J pairs of draws to compare, of `draws` draws."""
    given = self.preference
    return given(draws) if callable(given) else given


def every_pair(draws: int) -> Pairs:
  """All pairs (i, j) of draws with i < j."""
  return tuple(itertools.combinations(range(draws), 2))


class Verdict(NamedTuple):
  """A judge's answers about a round's responses.

  Attributes:
    assessed: the responses with their rewards and costs: all responses of the
      first draw, then all of the second draw, and so on.
    rewards: [P, K] float64; None where the judge has no reward.
    costs: [P, K] float64; None where the judge has no cost.
    preference: [P, J] float32 P(the first > the second); 1/2 where there is no
      answer.
    parts: by name, [P, K] float64, the numbers that the reward is made of.
    answered: [P] whether the judge has answered all that was asked about the
      prompt. Where it hasn't, rewards and costs without an answer are the mean
      of the others; such a prompt must have no weight.
  """

  assessed: Assessed
  rewards: np.ndarray | None
  costs: np.ndarray | None
  preference: np.ndarray
  answered: np.ndarray
  parts: Mapping[str, np.ndarray] = types.MappingProxyType({})


_GIVES = {
  "reward": "a reward",
  "cost": "a cost",
  "preference": "a preference",
  "segments": "rewards of segments",
}


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
    "rewards of segments": not needs.segments or judge.segments is not None,
  }
  lacking = [what for what, there in wanted.items() if not there]
  if lacking:
    given = [it for f, it in _GIVES.items() if getattr(judge, f) is not None]
    raise UserError(
      f"{name} needs a judge with {' and '.join(lacking)}, which this judge"
      f" doesn't have: it gives {' and '.join(given) or 'nothing'}.",
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
  for pair in needs.pairs(count):
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
  a_part: bool = False,
  unfinished: Unfinished = KEPT,
) -> Verdict:
  """Asks the judge once for each response's numbers, and for preferences.

  A judge of texts sees all responses of the first draw, then all of the second
  draw, and so on; where there are several processes, each asks for its own
  prompts (`jalign.feedback.assess`). A judge of tokens sees the rollout's rows
  as they lie on the devices.

  Args:
    judge: a judge with the functions that are needed.
    needs: needs of the algorithm.
    prompts: P texts.
    responses: P * K texts, the responses of a prompt adjacent.
    rollout: the same P * K responses as tokens.
    rows: P rows of the data; None where the data has no other columns.
    a_part: whether these are a part of a round's prompts, of which none may
      have an answer.
    unfinished: what becomes of rewards of responses that didn't end.

  Returns:
    The verdict.

  Raises:
    UserError: a function of the judge returns something unusable, or the judge
      answers nothing.
  """
  count, size = len(prompts), len(responses) // len(prompts)
  by_draw = [
    make_answers(
      prompts,
      responses[k::size],
      rows,
      _of_draw(rollout.sequences, k, size) if judge.reads_tokens else None,
    )
    for k in range(size)
  ]
  listed = answers = Answers(
    [*prompts] * size,
    [text for side in by_draw for text in side.texts],
    [row for side in by_draw for row in side.rows],
  )
  by_prompt = lambda x: x.reshape(size, count).T.copy()
  if judge.reads_tokens:
    prompt_of = np.repeat(np.arange(count), size).tolist()
    answers = Answers(
      [prompts[i] for i in prompt_of],
      responses,
      [by_draw[0].rows[i] for i in prompt_of],
      rollout.sequences,
    )
    by_prompt = lambda x: x.reshape(count, size)
  told = assess(judge, answers, a_part=a_part)
  numbers = {
    name: None if getattr(told, name) is None else by_prompt(told.numbers(name))
    for name in ("reward", "cost")
  }
  if unfinished.changes() and numbers["reward"] is not None:
    ended = fetch(rollout.finished).reshape(count, size)
    numbers["reward"] = unfinished.rewards(numbers["reward"], ended)
  parts = {name: by_prompt(x) for name, x in told.parts.items()}
  with_numbers = lambda answers, take: Assessed(
    answers,
    **{k: x if x is None else take(x) for k, x in numbers.items()},
    answers_all=judge.answers_all,
    parts={name: take(x) for name, x in parts.items()},
  )
  side = lambda k: with_numbers(by_draw[k], lambda x: x[:, k])
  pairs = needs.pairs(size)
  preference = np.zeros((count, len(pairs)), np.float32)
  for at, (i, j) in enumerate(pairs):
    preference[:, at] = compare(judge, side(i), side(j), a_part=a_part)
  assessed = with_numbers(listed, lambda x: x.T.reshape(-1))
  needed = [preference, needs.reward and numbers["reward"]]
  needed += [needs.cost and numbers["cost"]]
  missing = np.concatenate(
    [np.isnan(x) for x in needed if isinstance(x, np.ndarray)], 1
  )
  return Verdict(
    assessed,
    _filled(numbers["reward"]),
    _filled(numbers["cost"]),
    np.where(np.isnan(preference), np.float32(0.5), preference),
    np.logical_not(missing.any(1)),
    {name: cast(np.ndarray, _filled(x)) for name, x in parts.items()},
  )


def check_answered(verdict: Verdict, live: np.ndarray) -> None:
  """Checks that a judge has answered all that was asked about some prompt.

  Args:
    verdict: the judge's answers.
    live: [P] whether a prompt counts.

  Raises:
    UserError: there is no such prompt.
  """
  if not (verdict.answered & live).any():
    raise UserError(
      f"of {int(live.sum())} prompts, the judge has answered all that was asked"
      " about none.",
      where="annotator",
      remedy="Take larger batches, or a judge that answers more often.",
    )


def _filled(numbers: np.ndarray | None) -> np.ndarray | None:
  """Numbers with the mean of those that are there in place of NaN."""
  if numbers is None or not np.isnan(numbers).any():
    return numbers
  there = ~np.isnan(numbers)
  mean = numbers[there].mean() if there.any() else 0.0
  return np.where(there, numbers, mean)


@functools.partial(jax.jit, static_argnames=("k", "size"))
def _of_draw(sequences: Sequences, k: int, size: int) -> Sequences:
  """The rows of draw k; each stays on the device of its prompt."""
  return jax.tree.map(
    lambda x: x.reshape(-1, size, *x.shape[1:])[:, k], sequences
  )
