"""Asks a judge: numbers of each response, preferences, and statistics.

Where there are several processes, all call these functions together, with the
same answers, and all get the same numbers. A judge on the host is asked on each
process for the process's own prompts, outside the mesh. A judge of tokens is
asked by all processes together for all answers.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from jalign import hosts
from jalign.errors import UserError
from jalign.feedback.answers import Answers
from jalign.feedback.judge import Judge
from jalign.feedback.values import probabilities, read, scores


@dataclasses.dataclass(frozen=True, eq=False)
class Assessed:
  """N answers with the rewards and costs that a judge has given them.

  Attributes:
    answers: the N answers.
    reward: [N] float64, or an array on devices; None if the judge has no
      reward.
    cost: [N] float64, or an array on devices; None if the judge has no cost.
    answers_all: False where NaN stands for no answer (`Judge.answers_all`).
    parts: name -> [N], the numbers that the reward is made of, if the judge
      tells them.
  """

  answers: Answers
  reward: ArrayLike | None = None
  cost: ArrayLike | None = None
  answers_all: bool = True
  parts: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def __len__(self) -> int:
    return len(self.answers.texts)

  def numbers(self, name: str) -> np.ndarray:
    """[N] float64 rewards or costs; NaN for a response without an answer.

    Args:
      name: "reward" or "cost", which the judge must have.

    Raises:
      UserError: a number isn't finite.
    """
    return read(getattr(self, name), name, missing=not self.answers_all)

  def take(self, at: Sequence[int] | np.ndarray) -> "Assessed":
    """The answers at some indices, with their numbers."""
    at = np.asarray(at)
    told = ((k, getattr(self, k)) for k in ("reward", "cost"))
    numbers: dict[str, Any] = {k: v if v is None else v[at] for k, v in told}
    numbers["parts"] = {name: x[at] for name, x in self.parts.items()}
    return dataclasses.replace(self, answers=self.answers.take(at), **numbers)


def assess(
  judge: Judge,
  answers: Answers,
  *,
  apart: bool = False,
  a_part: bool = False,
) -> Assessed:
  """Asks a judge once for the reward and the cost of each response.

  Args:
    judge: the judge.
    answers: N answers.
    apart: whether only this process asks, for its own answers: within a
      function of another judge, which isn't asked on the mesh.
    a_part: whether these are a part of the answers that are asked about, of
      which none may have an answer.

  Raises:
    UserError: a function returns something else than N finite numbers, or
      answers nothing. Numbers that stay on devices are checked later, by
      `Assessed.numbers`.
  """
  named = (("reward", judge.reward), ("cost", judge.cost))
  functions = {name: f for name, f in named if f is not None}

  def ask(some: Answers) -> dict[str, Any]:
    count, missing = len(some.texts), not judge.answers_all
    told = (
      judge.parts.ask(some)
      if judge.parts is not None
      else {k: f(some) for k, f in functions.items()}
    )
    return {
      k: scores(values, count, k, missing=missing) for k, values in told.items()
    }

  if not functions:
    return Assessed(answers)
  told = _asked(judge, ask, answers, apart=apart)
  missing = not judge.answers_all
  parts = {
    name: read(told.pop(name), name, missing=missing)
    for name in sorted(set(told) - set(functions))
  }
  for name, values in told.items():
    if not (apart or a_part or isinstance(values, jax.Array)):
      _some_answer(values, f"{name}s", "responses")
  return Assessed(answers, **told, answers_all=judge.answers_all, parts=parts)


def compare(
  judge: Judge,
  a: Assessed,
  b: Assessed,
  *,
  apart: bool = False,
  a_part: bool = False,
) -> np.ndarray:
  """Asks a judge for preferences, or computes them from rewards.

  Args:
    judge: a judge with a preference or a reward.
    a: N answers with the numbers from `assess`.
    b: N answers to the same prompts, likewise.
    apart: as in `assess`.
    a_part: as in `assess`.

  Returns:
    [N] float32 P(a is preferred); NaN for a pair without an answer, which only
    a judge with `answers_all=False` gives.

  Raises:
    UserError: the judge has neither, gives something else than N
      probabilities, or answers nothing.
  """
  missing = not judge.answers_all
  if judge.preference is not None:
    prefer = judge.preference

    def ask(first: Answers, second: Answers) -> dict[str, Any]:
      given = prefer(first, second)
      count = len(first.texts)
      return {"preference": probabilities(given, count, missing=missing)}

    told = _asked(judge, ask, a.answers, b.answers, apart=apart)["preference"]
    whole = not (apart or a_part)
    return _some_answer(told, "preferences", "pairs") if whole else told
  if a.reward is None or b.reward is None:
    raise UserError(
      "the judge has neither a preference nor a reward: it compares nothing.",
      where="annotator",
    )
  margin = judge.scale * (a.numbers("reward") - b.numbers("reward"))
  p = probabilities(0.5 * (1.0 + np.tanh(0.5 * margin)), len(a), "", missing)
  return p if apart or a_part else _some_answer(p, "rewards", "pairs")


def _some_answer(values: np.ndarray, what: str, of: str) -> np.ndarray:
  """Returns the values; raises UserError if all stand for no answer."""
  if len(values) and np.isnan(values).all():
    raise UserError(
      f"the judge gave no {what}: it answered none of {len(values)} {of}.",
      where="config.annotator",
      remedy="Try its prompt on a few responses: its answers may be in another"
      " form than what reads them expects. A language model's setting `cache`"
      " names a file that keeps its answers.",
    )
  return values


def _asked(
  judge: Judge,
  ask: Callable[..., dict[str, Any]],
  *sides: Answers,
  apart: bool = False,
) -> dict[str, Any]:
  """What `ask` says of the answers on all processes, by name."""
  if apart or jax.process_count() == 1:
    return ask(*sides)
  if not judge.reads_tokens:

    def ask_some(at: Sequence[int]) -> dict[str, np.ndarray]:
      given = ask(*(side.take(at) for side in sides))
      return {
        name: read(x, name, missing=not judge.answers_all)
        if isinstance(x, jax.Array)
        else x
        for name, x in given.items()
      }

    return hosts.divided(sides[0].prompts, ask_some)
  given = ask(*sides)
  on_hosts = {
    name: np.asarray(values)
    for name, values in given.items()
    if not isinstance(values, jax.Array) or values.is_fully_addressable
  }
  # Numbers that a function made on the host may differ between processes.
  return given | hosts.exchange(on_hosts)[0]


def reward_statistics(
  assessed: Assessed, prompt_ids: Sequence[int] | np.ndarray
) -> dict[str, float]:
  """Mean and spread of rewards and of costs, in their units.

  Args:
    assessed: N responses with the numbers from `assess`.
    prompt_ids: [N] number of each response's prompt, from 0.

  Returns:
    `reward_mean`; `reward_std` over all responses, if there are at least two;
    `reward_std_within_prompt`, the root of the mean over prompts of the
    variance of a prompt's responses, if every prompt has at least two; and the
    same for `cost`. Variances divide by n - 1. Preferences have no statistics.
    `part_NAME_mean` for each part of a reward. Responses without an answer are
    left out, and so are prompts with fewer than two answers where any is
    missing.
  """
  statistics: dict[str, float] = {}
  for name, part in assessed.parts.items():
    if not np.isnan(part).all():
      statistics[f"part_{name}_mean"] = float(np.nanmean(part))
  for name in ("reward", "cost"):
    if getattr(assessed, name) is None or not len(assessed):
      continue
    values = assessed.numbers(name)
    answered = ~np.isnan(values)
    if not answered.any():
      continue
    values, ids = values[answered], np.asarray(prompt_ids)[answered]
    statistics[f"{name}_mean"] = float(values.mean())
    if values.size > 1:
      statistics[f"{name}_std"] = float(values.std(ddof=1))
    _, groups, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    counted = sizes > (0 if answered.all() else 1)
    if counted.any() and sizes[counted].min() > 1:
      mean = np.bincount(groups, values) / sizes
      squares = np.bincount(groups, (values - mean[groups]) ** 2)
      variance = np.mean(squares[counted] / (sizes[counted] - 1))
      statistics[f"{name}_std_within_prompt"] = float(np.sqrt(variance))
  return statistics
