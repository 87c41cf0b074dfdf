"""Checks of judges' settings, and factors that several kinds of judges read."""

import hashlib
import inspect
import pathlib
import typing
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jalign.errors import UserError, nearest
from jalign.experiment.judges.kind import Named
from jalign.feedback import Answers
from jalign.feedback.rules import Factors
from jalign.feedback.values import refuse, vector
from jalign.losses.signature import hyperparameters

_WORDS = {
  float: "a number",
  int: "a whole number",
  str: "a text",
  bool: "a bool",
}


def given(settings: Mapping[str, Any]) -> dict[str, Any]:
  """The settings that a config gives: those that aren't None."""
  return {key: value for key, value in settings.items() if value is not None}


def check_given(
  function: Callable[..., Any],
  values: Mapping[str, Any],
  what: str,
  where: str,
) -> None:
  """Checks that a function takes settings, and has all that it needs.

  Args:
    function: a function whose keyword-only parameters are settings.
    values: the settings that a config gives.
    what: the function in words, "the verifier 'numeric'".
    where: config key of the settings.

  Raises:
    UserError: a setting is unknown, missing or of the wrong type.
  """
  known = hyperparameters(function)
  known.pop("where", None)
  hints = typing.get_type_hints(inspect.unwrap(function))
  for key, value in values.items():
    if key not in known:
      raise UserError(
        f"{what} has no such setting.",
        where=f"{where}.{key}",
        remedy=nearest(key, known),
      )
    check_type(value, hints[key], f"{where}.{key}")
  for key, default in known.items():
    if default is inspect.Parameter.empty and key not in values:
      raise UserError(f"{what} needs this setting.", where=f"{where}.{key}")


def check_type(value: Any, hint: Any, where: str) -> None:
  """Raises UserError if a value isn't of a plain type, or of names to values.

  Values of other types pass.
  """
  if (typing.get_origin(hint) or hint) is Mapping:
    if not isinstance(value, Mapping):
      raise UserError(
        f"{value!r} is not a section.",
        where=where,
        remedy="Write a dictionary in a config: {NAME: ...}.",
      )
    return
  if hint not in _WORDS:
    return
  kinds = (int, float) if hint is float else (hint,)
  is_bool = isinstance(value, bool)
  if is_bool != (hint is bool) or not isinstance(value, kinds):
    raise UserError(f"{value!r} is not {_WORDS[hint]}.", where=where)


def factors_of(named: Named) -> Factors:
  """Loads a user's `(prompts, responses) -> {factor: numbers}`, guarded."""

  def check(returned: Any, prompts: Any, responses: Any) -> dict[str, Any]:
    if not isinstance(returned, Mapping):
      raise refuse(returned, "a dictionary of numbers by factor", "")
    return {
      str(name): vector(values, len(responses), "", "responses")
      for name, values in returned.items()
    }

  if not named.function:
    raise UserError(
      "names no function.",
      where=f"{named.where}.function",
      remedy="Name FILE.py:NAME, a function (prompts, responses) -> {factor: a"
      " number for each response}.",
    )
  factors = named.tools.load(
    named.function,
    f"{named.where.removeprefix('config.')}.function",
    "(prompts, responses) -> {factor: a number for each response}",
    check,
    named.tools.columns,
  )

  def ask(answers: Answers) -> dict[str, np.ndarray]:
    return factors(list(answers.prompts), list(answers.texts))

  return ask


def unscaled(named: Named) -> None:
  """Raises UserError if a judge without rewards is given a scale."""
  if named.scale != 1:
    raise UserError(
      "isn't read: the judge compares without a reward.",
      where=f"{named.where}.scale",
      remedy="Leave it out.",
    )


def file_hash(path: str, where: str) -> str:
  """A hash of a file; UserError if it can't be read."""
  try:
    content = pathlib.Path(path).read_bytes()
  except (OSError, ValueError) as e:
    raise UserError(f"{path!r} can't be read: {e}.", where=where) from None
  return hashlib.sha256(content).hexdigest()[:32]
