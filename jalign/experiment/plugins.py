"""Python functions that a config names: annotators, measures, reports."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from jalign.errors import UserError
from jalign.experiment.settings import AnnotatorSettings
from jalign.feedback import (
  Annotator,
  from_batch,
  from_preference,
  from_reward,
)

Measures = Callable[[list[str], list[str]], dict[str, np.ndarray]]
Opponents = Callable[[list[str]], dict[str, list[str]]]


def load_function(name: str, where: str) -> Any:
  """The function that a config names.

  Args:
    name: "file.py:name" or "package.module:name".
    where: config key, for errors.

  Raises:
    UserError: the file, module or function isn't there.
  """
  module_name, _, attribute = name.rpartition(":")
  remedy = "Write it as FILE.py:NAME or package.module:NAME."
  try:
    if module_name.endswith(".py"):
      spec = importlib.util.spec_from_file_location("named", module_name)
      if spec is None or spec.loader is None:
        raise ImportError(module_name)
      module = importlib.util.module_from_spec(spec)
      spec.loader.exec_module(module)
    else:
      module = importlib.import_module(module_name)
    function = getattr(module, attribute)
  except Exception as e:  # whatever the user's module does when it is imported
    raise UserError(
      f"{name!r} can't be loaded ({type(e).__name__}: {e}).",
      where=where,
      remedy=remedy,
    ) from e
  if not callable(function):
    raise UserError(f"{name!r} is no function.", where=where, remedy=remedy)
  return function


def load_annotator(settings: AnnotatorSettings) -> Annotator | None:
  """The annotator that a config names, None for none.

  Raises:
    UserError: it can't be loaded, or the kind is unknown.
  """
  kinds: dict[str, Callable[[Any], Annotator]] = {
    "reward": lambda f: from_reward(f, scale=settings.scale),
    "preference": from_preference,
    "batch": from_batch,
  }
  if settings.kind not in kinds:
    raise UserError(
      f"{settings.kind!r} is not one of {', '.join(kinds)}.",
      where="config.annotator.kind",
    )
  if not settings.function:
    return None
  function = load_function(settings.function, "config.annotator.function")
  return kinds[settings.kind](function)


def load_measures(settings: AnnotatorSettings) -> Measures:
  """What else to measure on samples, checked; nothing where none is named."""
  where = "config.annotator.measures"
  if not settings.measures:
    return lambda prompts, responses: {}
  function = load_function(settings.measures, where)

  def measure(prompts: list[str], responses: list[str]):
    found = {}
    for name, values in function(prompts, responses).items():
      found[name] = np.asarray(values, np.float64)
      if found[name].shape != (len(responses),):
        raise UserError(
          f"{name!r} has shape {found[name].shape} for {len(responses)}"
          " responses.",
          where=where,
        )
    return found

  return measure


def load_opponents(settings: AnnotatorSettings) -> Opponents:
  """Fixed contestants, checked; none where none are named."""
  where = "config.annotator.opponents"
  if not settings.opponents:
    return lambda prompts: {}
  function = load_function(settings.opponents, where)

  def oppose(prompts: list[str]) -> dict[str, list[str]]:
    found = {name: list(texts) for name, texts in function(prompts).items()}
    for name, texts in found.items():
      if len(texts) != len(prompts):
        raise UserError(
          f"{name!r} has {len(texts)} responses to {len(prompts)} prompts.",
          where=where,
        )
    return found

  return oppose
