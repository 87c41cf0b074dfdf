"""Makes the judge that a config names, from functions of several forms."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jalign.errors import UserError
from jalign.experiment.config.functions import guarded
from jalign.experiment.config.settings import Settings
from jalign.feedback import (
  Answers,
  Judge,
  from_batch,
  from_cost,
  from_preference,
  from_reward,
  from_rewards,
)
from jalign.feedback.judge import checked_scale, takes_row
from jalign.feedback.values import number, read, refuse, scores, vector

Load = Callable[..., Any]  # (name, key, form, check, names) -> function

_FUNCTION, _COST = "annotator.function", "annotator.cost"


class _Kind(NamedTuple):
  """A form of `annotator.function`.

  Attributes:
    form: the form that the function must have; or a function that returns the
      form for a given function.
    check: `(returned, *arguments) -> value to return`.
    judge: `(guarded function, scale) -> Judge`.
  """

  form: str | Callable[[Any], str]
  check: Callable[..., Any]
  judge: Callable[[Any, float], Judge]


def load_judge(settings: Settings, load: Load) -> Judge | None:
  """Makes the judge of a config; None where the config names no judge.

  Args:
    settings: settings of the annotator, and of the data, whose columns an error
      may suggest.
    load: `(name, key, form, check, names) -> guarded function`.

  Raises:
    UserError: an unknown kind, or functions that can't be combined.
  """
  named = settings.annotator
  if named.kind not in _KINDS:
    raise UserError(
      f"{named.kind!r} is not one of {', '.join(_KINDS)}.",
      where="config.annotator.kind",
    )
  if not named.function:
    if named.cost:
      raise UserError(
        "is a cost, by which nothing is compared.",
        where=f"config.{_COST}",
        remedy="Name a reward or a preference in config.annotator.function.",
      )
    return None
  columns = [*settings.data.judge_columns]
  columns += (c for s in settings.stages for c in s.data.judge_columns)
  names = lambda: columns
  kind = _KINDS[named.kind]
  function = load(named.function, _FUNCTION, kind.form, kind.check, names)
  if named.kind == "judge" and named.scale != 1:
    raise UserError(
      "isn't read: the judge has a scale of its own.",
      where="config.annotator.scale",
      remedy="Leave it out, and give the scale to the judge.",
    )
  judge = kind.judge(function, named.scale)
  if not named.cost:
    return judge
  if judge.cost is not None:
    raise UserError(
      "is a second cost: the judge has one.", where=f"config.{_COST}"
    )
  cost = load(named.cost, _COST, _form_of_one, _one, names)
  return judge._replace(cost=from_cost(cost).cost)


def _form_of_one(function: Any) -> str:
  """Returns the form of a function of one response, with or without a row."""
  row = ", row" if takes_row(function) else ""
  return f"(prompt, response{row}) -> a number"


def _one(returned: Any, *arguments: Any) -> float:
  return number(returned, "")


def _many(returned: Any, prompts: Any, *others: Any) -> np.ndarray:
  return vector(returned, len(prompts), "")


def _probable(values: Any) -> Any:
  """Returns the values unchanged if all are in [0, 1]."""
  flat = np.ravel(values)
  bad = flat[~((flat >= 0) & (flat <= 1))]
  if bad.size:
    raise UserError(f"gave {bad[0]:g}, but P is in [0, 1].")
  return values


def _record(judge: Any) -> Judge:
  """Checks that a user's function has returned a usable judge."""
  if not isinstance(judge, Judge):
    raise refuse(judge, "a Judge of jalign.feedback", "")
  if judge.reward is None and judge.preference is None:
    raise UserError("gave a judge without reward and preference.")
  checked_scale(judge.scale)
  return judge


def _guarded(judge: Judge) -> Judge:
  """Returns the judge with functions that raise only UserError.

  Numbers on devices are read once here, so that the error for a bad number has
  the place of the function.
  """

  def scored(name: str) -> Callable[..., Any]:
    def check(returned: Any, answers: Answers) -> Any:
      values = scores(returned, len(answers.texts), name, "")
      read(values, name, "")
      return values

    return check

  def preferred(returned: Any, a: Answers, b: Answers) -> Any:
    return _probable(vector(returned, len(a.texts), ""))

  where = f"config.{_FUNCTION}"
  of_one, of_two = (
    "(answers) -> a number for each",
    "(answers, answers) -> P of each",
  )
  forms: dict[str, tuple[str, Callable[..., Any]]] = {
    "reward": (of_one, scored("reward")),
    "cost": (of_one, scored("cost")),
    "preference": (of_two, preferred),
  }
  functions: dict[str, Any] = {
    name: guarded(getattr(judge, name), where, *form, inside=True)
    for name, form in forms.items()
    if getattr(judge, name) is not None
  }
  return judge._replace(**functions)


_KINDS: dict[str, _Kind] = {
  "reward": _Kind(
    _form_of_one, _one, lambda f, scale: from_reward(f, scale=scale)
  ),
  "rewards": _Kind(
    "(prompts, responses, rows) -> a number for each response",
    lambda returned, prompts, *others: read(
      vector(returned, len(prompts), "", "responses"), "reward", ""
    ),
    lambda f, scale: from_rewards(f, scale=scale),
  ),
  "preference": _Kind(
    "(prompt, a, b) -> P(a is preferred)",
    lambda returned, *texts: _probable(_one(returned)),
    lambda f, scale: from_preference(f),
  ),
  "batch": _Kind(
    "(prompts, a, b) -> P(a is preferred) for each prompt",
    lambda returned, *texts: _probable(_many(returned, *texts)),
    lambda f, scale: from_batch(f),
  ),
  "judge": _Kind(
    "() -> a Judge of jalign.feedback",
    _record,
    lambda f, scale: _guarded(f()),
  ),
}
