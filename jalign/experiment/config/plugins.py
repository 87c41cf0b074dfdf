"""Python functions that a config names: annotators, measures, reports."""

import copy
import pathlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jalign.errors import UserError
from jalign.experiment.config.functions import guarded, load_function
from jalign.experiment.config.settings import AnnotatorSettings, Settings
from jalign.feedback import (
  Judge,
  from_batch,
  from_preference,
  from_reward,
)
from jalign.feedback.values import number, refuse, vector
from jalign.pages.report import Section

Measures = Callable[[list[str], list[str]], dict[str, np.ndarray]]
Opponents = Callable[[list[str]], dict[str, list[str]]]


class Plugins(NamedTuple):
  """The functions of a config; they take copies and raise UserError alone.

  Attributes:
    annotator: None where none is named.
    measures: what else to measure on samples; nothing where none is named.
    opponents: fixed contestants; none where none are named.
    report: sections of an `Outcome`, None where none is named.
  """

  annotator: Judge | None
  measures: Measures
  opponents: Opponents
  report: Callable[[Any], Sequence[Section]] | None


def load_plugins(settings: Settings) -> Plugins:
  """Loads the functions that a config names, each file once.

  Raises:
    UserError: one can't be loaded or called, or the annotator's kind is
      unknown.
  """
  named, load = settings.annotator, _loader()
  return Plugins(
    annotator=_annotator(named, load),
    measures=load(
      named.measures,
      "annotator.measures",
      "(prompts, responses) -> {name: a number for each response}",
      _measured,
    )
    if named.measures
    else lambda prompts, responses: {},
    opponents=load(
      named.opponents,
      "annotator.opponents",
      "(prompts) -> {name: a response to each prompt}",
      _opposed,
    )
    if named.opponents
    else lambda prompts: {},
    report=_of_copies(
      load(settings.report, "report", "(outcome) -> sections", _sections)
    )
    if settings.report
    else None,
  )


def load_annotator(named: AnnotatorSettings) -> Judge | None:
  """The annotator alone; as `load_plugins`."""
  return _annotator(named, _loader())


def _loader() -> Callable[..., Any]:
  """`(name, key, form, check) -> function`; a file is run once."""
  loaded: dict[pathlib.Path, types.ModuleType] = {}

  def load(name: str, key: str, form: str, check: Callable[..., Any]) -> Any:
    where = f"config.{key}"
    function = load_function(name, where, loaded)
    return guarded(function, where, form, check)

  return load


def _annotator(named: AnnotatorSettings, load) -> Judge | None:
  one = lambda found, *texts: number(found, "")
  many = lambda found, prompts, *_: vector(found, len(prompts), "")
  kinds: dict[str, tuple[str, Any, Callable[[Any], Judge]]] = {
    "reward": (
      "(prompt, response) -> a number",
      one,
      lambda f: from_reward(f, scale=named.scale),
    ),
    "preference": (
      "(prompt, a, b) -> P(a is preferred)",
      lambda found, *texts: _probable(one(found)),
      from_preference,
    ),
    "batch": (
      "(prompts, a, b) -> P(a is preferred) for each prompt",
      lambda *given: _probable(many(*given)),
      from_batch,
    ),
  }
  if named.kind not in kinds:
    raise UserError(
      f"{named.kind!r} is not one of {', '.join(kinds)}.",
      where="config.annotator.kind",
    )
  if not named.function:
    return None
  form, check, annotator = kinds[named.kind]
  return annotator(load(named.function, "annotator.function", form, check))


def _probable(values: Any) -> Any:
  """The same, if all are in [0, 1]."""
  flat = np.ravel(values)
  bad = flat[~((flat >= 0) & (flat <= 1))]
  if bad.size:
    raise UserError(f"gave {bad[0]:g}, and P is in [0, 1].")
  return values


def _measured(found: Any, prompts: Any, responses: Any) -> dict[str, Any]:
  measured = {}
  for name, values in _by_name(found):
    numbers = vector(values, len(responses), "", "responses")
    if not np.isfinite(numbers).all():
      at = int(np.flatnonzero(~np.isfinite(numbers))[0])
      raise UserError(f"gave {name!r} as {numbers[at]} in place {at}.")
    measured[name] = numbers
  return measured


def _opposed(found: Any, prompts: Any) -> dict[str, list[str]]:
  opposed = {}
  for name, texts in _by_name(found):
    if not isinstance(texts, list | tuple | np.ndarray):
      raise refuse(texts, f"a list of responses of {name!r}", "")
    for text in texts:
      if not isinstance(text, str):
        raise refuse(text, f"a text, as a response of {name!r}", "")
    if len(texts) != len(prompts):
      raise UserError(
        f"gave {len(texts)} responses of {name!r} to {len(prompts)} prompts."
      )
    opposed[name] = [str(text) for text in texts]
  return opposed


def _by_name(found: Any) -> list[tuple[str, Any]]:
  """The items of a mapping from names."""
  if not isinstance(found, Mapping):
    raise refuse(found, "a dictionary", "")
  for name in found:
    if not isinstance(name, str) or not name.strip():
      raise UserError(f"gave {name!r} as a name.")
  return list(found.items())


def _sections(found: Any, outcome: Any) -> list[Section]:
  if not isinstance(found, list | tuple):
    raise refuse(found, "a list of sections", "")
  for section in found:
    if not isinstance(section, Section):
      raise refuse(section, "a Section of jalign.pages.report", "")
  return list(found)


def _of_copies(report: Callable[[Any], Any]) -> Callable[[Any], Any]:
  """A report's function, which may change what it is given."""
  kept = {"settings", "prepared", "model"}  # frozen, or large
  return lambda outcome: report(
    outcome._replace(
      **{
        name: copy.deepcopy(value)
        for name, value in outcome._asdict().items()
        if name not in kept
      }
    )
  )
