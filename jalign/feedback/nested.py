"""Asks judges within a judge that is made of them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jalign.errors import UserError
from jalign.feedback.answers import Answers
from jalign.feedback.counts import merged
from jalign.feedback.judge import Judge
from jalign.feedback.rewards import Assessed, assess, compare

Judges = Mapping[str, Judge]


class Whole(NamedTuple):
  """What holds of a judge that is made of others: fields of `Judge`.

  Attributes:
    reads_tokens: whether any of the judges reads tokens; then all processes ask
      the whole together.
    answers_all: whether all of the judges always answer.
    counts: the judges' counts, each with its judge's name; None where nothing
      is counted.
  """

  reads_tokens: bool
  answers_all: bool
  counts: Callable[[], Mapping[str, float]] | None

  def judge(self, **fields: Any) -> Judge:
    """Makes a judge with these fields and with other fields of `Judge`."""
    return Judge(**{**self._asdict(), **fields})


def whole(judges: Judges, where: str = "annotator") -> Whole:
  """Says what holds of a judge that is made of others.

  Args:
    judges: the judges, by their names.
    where: config key, for errors.

  Raises:
    UserError: there are no judges.
  """
  if not judges:
    raise UserError("there are no judges to combine.", where=where)
  counting = {name: j.counts for name, j in judges.items() if j.counts}

  def counts() -> dict[str, float]:
    return merged(
      *(
        {f"{name}: {what}": count for what, count in count_of().items()}
        for name, count_of in counting.items()
      )
    )

  return Whole(
    any(judge.reads_tokens for judge in judges.values()),
    all(judge.answers_all for judge in judges.values()),
    counts if counting else None,
  )


def ask(judge: Judge, answers: Answers, of: Whole) -> Assessed:
  """`assess` of a judge within the judge `of` that is made of it."""
  return assess(judge, answers, apart=not of.reads_tokens)


def prefer(judge: Judge, a: Answers, b: Answers, of: Whole) -> np.ndarray:
  """[N] float64 `compare` of a judge within the judge `of` made of it."""
  sides = [
    Assessed(side) if judge.preference is not None else ask(judge, side, of)
    for side in (a, b)
  ]
  found = compare(judge, *sides, apart=not of.reads_tokens)
  return found.astype(np.float64)


def check_has(judges: Judges, field: str, where: str) -> None:
  """Raises UserError if a judge lacks a reward, a cost or any comparison.

  Args:
    judges: judges by their names.
    field: "reward", "cost", or "preference", which a reward gives, too.
    where: config key, for errors.
  """
  for name, judge in judges.items():
    has = getattr(judge, field) is not None
    if has or (field == "preference" and judge.reward is not None):
      continue
    given = ("reward", "cost", "preference")
    there = [f for f in given if getattr(judge, f) is not None]
    raise UserError(
      f"the judge {name!r} has no {field}.",
      where=where,
      remedy=f"It has: {', '.join(there) or 'nothing'}. Combine judges that all"
      f" have a {field}.",
    )


def check_weights(
  weights: Mapping[str, float], judges: Judges, where: str
) -> dict[str, float]:
  """Returns the weights of judges; raises UserError if a name or one is bad."""
  for name, weight in weights.items():
    if name not in judges:
      raise UserError(
        f"{name!r} is none of the judges.",
        where=where,
        remedy=f"They are: {', '.join(judges)}.",
      )
    real = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not real or not np.isfinite(weight):
      raise UserError(f"{weight!r} is no weight.", where=f"{where}.{name}")
  return {name: float(weight) for name, weight in weights.items()}


def shares(
  weights: Mapping[str, float] | None, judges: Judges, where: str
) -> dict[str, float]:
  """Weights that sum to 1, of every judge; None weighs all alike.

  Raises:
    UserError: a weight is negative, a judge has none, or all are 0.
  """
  if weights is None:
    return {name: 1 / len(judges) for name in judges}
  checked = check_weights(weights, judges, where)
  total = sum(checked.values())
  if min(checked.values(), default=-1) < 0 or not total > 0:
    raise UserError(
      f"{weights} aren't weights of a population.",
      where=where,
      remedy="Give weights >= 0, not all of them 0.",
    )
  lacking = [name for name in judges if name not in checked]
  if lacking:
    raise UserError(
      f"there is no weight of {', '.join(lacking)}.",
      where=where,
      remedy="Give each judge a weight; it may be 0.",
    )
  return {name: checked[name] / total for name in judges}
