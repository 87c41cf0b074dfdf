"""Loads the functions that a config names: annotators, measures, reports."""

import copy
import pathlib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jalign import hosts
from jalign.errors import UserError
from jalign.experiment.config.functions import guarded, load_function
from jalign.experiment.config.settings import Settings
from jalign.experiment.judges import Reading, load_gold, load_judge
from jalign.experiment.judges.kind import Load
from jalign.feedback import Judge
from jalign.feedback.values import refuse, vector
from jalign.pages.report import Section

Measures = Callable[[list[str], list[str]], dict[str, np.ndarray]]
Opponents = Callable[[list[str]], dict[str, list[str]]]


class Plugins(NamedTuple):
  """The functions of a config; they take copies and raise only UserError.

  Attributes:
    annotator: the judge, or None where the config names no judge.
    gold: the judge that only measures, or None.
    measures: further measures of samples; gives {} where none are named. Each
      process measures responses to its own prompts, and all get all numbers.
    opponents: fixed contestants, of the first process for all; gives {} where
      none are named.
    report: makes sections of an `Outcome`; None where none is named.
  """

  annotator: Judge | None
  gold: Judge | None
  measures: Measures
  opponents: Opponents
  report: Callable[[Any], Sequence[Section]] | None


def load_plugins(
  settings: Settings, reading: Callable[[], Reading | None] = lambda: None
) -> Plugins:
  """Loads the functions that a config names, and runs every file once.

  Args:
    settings: the run's settings.
    reading: how the run writes texts as tokens; called when a judge is asked.

  Raises:
    UserError: a function can't be loaded or called, or the annotator's kind is
      unknown.
  """
  named, load = settings.annotator, _loader()
  return Plugins(
    annotator=load_judge(settings, load, reading),
    gold=load_gold(settings, load, reading),
    measures=_of_own_prompts(
      load(
        named.measures,
        "annotator.measures",
        "(prompts, responses) -> {name: a number for each response}",
        _measured,
      )
    )
    if named.measures
    else lambda prompts, responses: {},
    opponents=_of_first_process(
      load(
        named.opponents,
        "annotator.opponents",
        "(prompts) -> {name: a response to each prompt}",
        _opposed,
      )
    )
    if named.opponents
    else lambda prompts: {},
    report=_of_copies(
      load(settings.report, "report", "(outcome) -> sections", _sections)
    )
    if settings.report
    else None,
  )


def load_annotator(
  settings: Settings, reading: Callable[[], Reading | None] = lambda: None
) -> Judge | None:
  """Loads only the annotator, as `load_plugins` does."""
  return load_judge(settings, _loader(), reading)


def _loader() -> Load:
  """Makes `(name, key, form, check) -> function`, which runs a file once."""
  loaded: dict[pathlib.Path, types.ModuleType] = {}

  def load(
    name: str,
    key: str,
    form: str | Callable[[Any], str],
    check: Callable[..., Any],
    names: Callable[[], Iterable[str]] = lambda: (),
  ) -> Any:
    where = f"config.{key}"
    function = load_function(name, where, loaded)
    said = form if isinstance(form, str) else form(function)
    return guarded(function, where, said, check, names)

  return load


def _measured(returned: Any, prompts: Any, responses: Any) -> dict[str, Any]:
  measured = {}
  for name, values in _by_name(returned):
    numbers = vector(values, len(responses), "", "responses")
    if not np.isfinite(numbers).all():
      at = int(np.flatnonzero(~np.isfinite(numbers))[0])
      raise UserError(f"gave {name!r} as {numbers[at]} in place {at}.")
    measured[name] = numbers
  return measured


def _opposed(returned: Any, prompts: Any) -> dict[str, list[str]]:
  opposed = {}
  for name, texts in _by_name(returned):
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


def _of_own_prompts(measures: Measures) -> Measures:
  """Has each process measure responses to its own prompts, for all."""

  def measure(prompts: list[str], responses: list[str]) -> dict[str, Any]:
    taken = lambda at: ([prompts[i] for i in at], [responses[i] for i in at])
    return hosts.divided(prompts, lambda at: measures(*taken(at)))

  return measure


def _of_first_process(opponents: Opponents) -> Opponents:
  """Has the first process make the responses, for all."""

  def oppose(prompts: list[str]) -> dict[str, list[str]]:
    make = lambda: opponents(prompts) if hosts.host0() else {}
    return hosts.together(make)[0]

  return oppose


def _by_name(mapping: Any) -> list[tuple[str, Any]]:
  """Returns the items of a mapping, whose keys must be names."""
  if not isinstance(mapping, Mapping):
    raise refuse(mapping, "a dictionary", "")
  for name in mapping:
    if not isinstance(name, str) or not name.strip():
      raise UserError(f"gave {name!r} as a name.")
  return list(mapping.items())


def _sections(returned: Any, outcome: Any) -> list[Section]:
  if not isinstance(returned, list | tuple):
    raise refuse(returned, "a list of sections", "")
  for section in returned:
    if not isinstance(section, Section):
      raise refuse(section, "a Section of jalign.pages.report", "")
  return list(returned)


def _of_copies(report: Callable[[Any], Any]) -> Callable[[Any], Any]:
  """Wraps a report's function, so that it may change its arguments."""
  uncopied = {"settings", "prepared", "model"}  # frozen, or large
  return lambda outcome: report(
    outcome._replace(
      **{
        name: copy.deepcopy(value)
        for name, value in outcome._asdict().items()
        if name not in uncopied
      }
    )
  )
