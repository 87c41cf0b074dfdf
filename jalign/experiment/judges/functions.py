"""Judges that are a user's Python functions, in several forms."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from jalign.errors import UserError
from jalign.experiment.config import code
from jalign.experiment.config.functions import guarded
from jalign.experiment.judges.kind import JudgeKind, Named
from jalign.feedback import (
  Answers,
  Judge,
  from_batch,
  from_preference,
  from_reward,
  from_rewards,
)
from jalign.feedback.judge import checked_scale, takes_row
from jalign.feedback.segments import from_segments, read_one, read_segments
from jalign.feedback.values import number, read, refuse, scores, vector


class _Form(NamedTuple):
  """A form of `annotator.function`.

  Attributes:
    about: what the function takes and returns.
    form: the form that the function must have; or a function that returns the
      form for a given function.
    check: `(returned, *arguments) -> value to return`.
    judge: `(guarded function, scale, where) -> Judge`.
  """

  about: str
  form: str | Callable[[Any], str]
  check: Callable[..., Any]
  judge: Callable[[Any, float, str], Judge]


def load_one(named: Named, name: str, key: str) -> Any:
  """Loads a function of one response, guarded.

  Args:
    named: the judge's description.
    name: name of the function.
    key: config key of the function.
  """
  return named.tools.load(name, key, _form_of_one, _one, named.tools.columns)


def _make(form: _Form, named: Named) -> Judge:
  key = f"{named.where.removeprefix('config.')}.function"
  load, columns = named.tools.load, named.tools.columns
  function = load(named.function, key, form.form, form.check, columns)
  return form.judge(function, named.scale, f"config.{key}")


def _row(form: _Form) -> JudgeKind:
  def made_of(named: Named) -> Iterable[str]:
    return [code.fingerprint(named.function)]

  return JudgeKind(form.about, functools.partial(_make, form), made_of)


def _form_of_one(function: Any) -> str:
  """Returns the form of a function of one response, with or without a row."""
  row = ", row" if takes_row(function) else ""
  return f"(prompt, response{row}) -> a number"


def _one(returned: Any, *arguments: Any) -> float:
  return number(returned, "")


def _many(returned: Any, prompts: Any, *others: Any) -> np.ndarray:
  return vector(returned, len(prompts), "")


def _probable(values: Any, missing: bool = False) -> Any:
  """Returns the values unchanged if all are in [0, 1]; NaN if it may be."""
  flat = np.ravel(values)
  inside = (flat >= 0) & (flat <= 1)
  bad = flat[~(inside | (missing & np.isnan(flat)))]
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


def _own(function: Any, scale: float, where: str) -> Judge:
  if scale != 1:
    raise UserError(
      "isn't read: the judge has a scale of its own.",
      where=f"{where.removesuffix('function')}scale",
      remedy="Set it to 1, its default, and give the scale to the judge.",
    )
  return _guarded(function(), where)


def _guarded(judge: Judge, where: str) -> Judge:
  """Returns the judge with functions that raise only UserError.

  Numbers on devices are read once here, so that the error for a bad number has
  the place of the function.
  """

  missing = not judge.answers_all

  def scored(name: str) -> Callable[..., Any]:
    def check(returned: Any, answers: Answers) -> Any:
      values = scores(returned, len(answers.texts), name, "", missing)
      read(values, name, "", missing)
      return values

    return check

  def preferred(returned: Any, a: Answers, b: Answers) -> Any:
    return _probable(vector(returned, len(a.texts), ""), missing)

  of_one, of_two = (
    "(answers) -> a number for each",
    "(answers, answers) -> P of each",
  )
  forms: dict[str, tuple[str, Callable[..., Any]]] = {
    "reward": (of_one, scored("reward")),
    "cost": (of_one, scored("cost")),
    "preference": (of_two, preferred),
    "segments": (
      "(answers) -> a list of (end, reward) for each",
      lambda returned, answers: read_segments(returned, answers.texts, ""),
    ),
  }
  functions: dict[str, Any] = {
    name: guarded(getattr(judge, name), where, *form, inside=True)
    for name, form in forms.items()
    if getattr(judge, name) is not None
  }
  return judge._replace(**functions)


FUNCTIONS: dict[str, JudgeKind] = {
  name: _row(form)
  for name, form in {
    "reward": _Form(
      "a function `(prompt, response)`, or `(prompt, response, row)`, that"
      " returns a number, higher is better",
      _form_of_one,
      _one,
      lambda f, scale, where: from_reward(f, scale=scale),
    ),
    "rewards": _Form(
      "a function `(prompts, responses, rows)` of three lists that returns a"
      " number for each response",
      "(prompts, responses, rows) -> a number for each response",
      lambda returned, prompts, *others: read(
        vector(returned, len(prompts), "", "responses"), "reward", ""
      ),
      lambda f, scale, where: from_rewards(f, scale=scale),
    ),
    "preference": _Form(
      "a function `(prompt, a, b)` that returns the probability that `a` is"
      " preferred",
      "(prompt, a, b) -> P(a is preferred)",
      lambda returned, *texts: _probable(_one(returned)),
      lambda f, scale, where: from_preference(f),
    ),
    "batch": _Form(
      "a function `(prompts, a, b)` of three lists that returns a probability"
      " for each prompt",
      "(prompts, a, b) -> P(a is preferred) for each prompt",
      lambda returned, *texts: _probable(_many(returned, *texts)),
      lambda f, scale, where: from_batch(f),
    ),
    "segments": _Form(
      "a function `(prompt, response)`, or `(prompt, response, row)`, that"
      " returns a list of (end, reward): for each segment the number of"
      " characters up to its end, and its reward",
      lambda function: _form_of_one(function).replace(
        "a number", "a list of (end, reward)"
      ),
      lambda returned, prompt, response, *row: read_one(returned, response, ""),
      lambda f, scale, where: from_segments(f, scale=scale, where=where),
    ),
    "judge": _Form(
      "a function `()` that returns a `jalign.feedback.Judge`",
      "() -> a Judge of jalign.feedback",
      _record,
      _own,
    ),
  }.items()
}
