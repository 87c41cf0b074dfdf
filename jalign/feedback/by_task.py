"""A judge that is another one for each task, by a column of the data."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jalign.errors import UserError
from jalign.feedback.answers import Answers
from jalign.feedback.judge import Judge
from jalign.feedback.nested import Judges, ask, prefer, whole


def by_task(
  judges: Judges,
  *,
  column: str = "task",
  where: str = "annotator",
) -> Judge:
  """Asks about each response the judge that the response's row names.

  Rewards of different judges are compared only if an algorithm or a metric
  mixes prompts; advantages within a prompt don't. The judge has what all of the
  judges have: rewards, costs, preferences, segments.

  Args:
    judges: judges by the names of their tasks.
    column: the column of the data with the task of a prompt.
    where: config key, for errors.

  Raises:
    UserError: the judges have nothing in common, one reads tokens; or, when the
      judge is asked, a row has no such column or names no judge.
  """
  of = whole(judges, where)
  if of.reads_tokens:
    raise UserError(
      "a judge of tokens can't be asked for some of the responses.",
      where=where,
      remedy="Choose judges of texts for the tasks.",
    )
  has = lambda field: all(
    getattr(judge, field) is not None for judge in judges.values()
  )
  compares = all(
    j.preference is not None or j.reward is not None for j in judges.values()
  )
  if not (has("reward") or compares):
    raise UserError(
      "the judges of the tasks have neither all rewards nor all preferences.",
      where=where,
      remedy="Give every task a judge that compares responses.",
    )

  def filled(answers: Answers, told: Callable[[Judge, list[int]], Any]) -> Any:
    found = np.zeros(len(answers.texts))
    for name, at in _places(judges, answers, column, where).items():
      found[at] = told(judges[name], at)
    return found

  def number(field: str) -> Callable[[Answers], np.ndarray]:
    return lambda answers: filled(
      answers,
      lambda judge, at: ask(judge, answers.take(at), of).numbers(field),
    )

  def preference(a: Answers, b: Answers) -> np.ndarray:
    return filled(
      a, lambda judge, at: prefer(judge, a.take(at), b.take(at), of)
    )

  def segments(answers: Answers) -> list[Any]:
    found: list[Any] = [None] * len(answers.texts)
    for name, at in _places(judges, answers, column, where).items():
      function = judges[name].segments
      assert function is not None  # has("segments")
      for i, one in zip(at, function(answers.take(at))):
        found[i] = one
    return found

  scales = {judge.scale for judge in judges.values()}
  own = any(j.preference is not None for j in judges.values())
  follows = has("reward") and not own and len(scales) == 1
  return of.judge(
    reward=number("reward") if has("reward") else None,
    cost=number("cost") if has("cost") else None,
    preference=None if follows else preference,
    segments=segments if has("segments") else None,
    scale=scales.pop() if follows else 1.0,
  )


def _places(
  judges: Judges, answers: Answers, column: str, where: str
) -> dict[str, list[int]]:
  """For each judge that is asked, the indices of the answers."""
  places: dict[str, list[int]] = {}
  for i, row in enumerate(answers.rows):
    task: Any = row.get(column)
    if task not in judges:
      raise UserError(
        f"a row has the task {task!r} in its column {column!r}, of which there"
        " is no judge.",
        where=where,
        remedy=f"There are judges of: {', '.join(judges)}. The column must be"
        " among data.judge_columns.",
      )
    places.setdefault(task, []).append(i)
  return places
