"""Makes the judge that a config names, by a table of kinds of judges."""

import functools
import typing
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from jalign.errors import UserError, nearest
from jalign.experiment.config.settings import Settings
from jalign.experiment.judges.checked import check_type
from jalign.experiment.judges.combined import COMBINED
from jalign.experiment.judges.constitution import CONSTITUTION
from jalign.experiment.judges.features import FEATURES
from jalign.experiment.judges.functions import FUNCTIONS, load_one
from jalign.experiment.judges.kind import (
  Description,
  JudgeKind,
  Load,
  Named,
  Reading,
  Tools,
)
from jalign.experiment.judges.language_model import LANGUAGE_MODELS
from jalign.experiment.judges.model import MODEL
from jalign.experiment.judges.noisy import NOISY
from jalign.experiment.judges.rules import RULES
from jalign.experiment.judges.self_consistent import SELF_CONSISTENT
from jalign.experiment.judges.trained import TRAINED
from jalign.experiment.judges.verifier import VERIFIER
from jalign.feedback import Judge, from_cost
from jalign.feedback.judge import checked_scale
from jalign.losses.signature import hyperparameters

JUDGES: Mapping[str, JudgeKind] = MappingProxyType(
  {
    **FUNCTIONS,
    "model": MODEL,
    "features": FEATURES,
    **LANGUAGE_MODELS,
    "verifier": VERIFIER,
    "combined": COMBINED,
    "rules": RULES,
    "noisy": NOISY,
    "constitution": CONSTITUTION,
    **TRAINED,
    **SELF_CONSISTENT,
  }
)


def load_judge(
  settings: Settings,
  load: Load,
  reading: Callable[[], Reading | None] = lambda: None,
) -> Judge | None:
  """Makes the judge of a config; None where the config names no judge.

  Args:
    settings: settings of the annotator, and of the data, whose columns an error
      may suggest.
    load: `(name, key, form, check, names) -> guarded function`.
    reading: how the run that asks writes texts as tokens.

  Raises:
    UserError: an unknown kind, settings that the kind doesn't have, or
      functions that can't be combined.
  """
  named, tools = settings.annotator, tools_of(settings, load, reading)
  kind = _kind(named.kind, "config.annotator.kind")
  if not named.function and not _settings(kind) & set(named.settings):
    if named.cost:
      raise UserError(
        "is a cost, by which nothing is compared.",
        where="config.annotator.cost",
        remedy="Name a reward or a preference in config.annotator.function.",
      )
    return None
  judge = _comparing(
    tools.judge(_described(settings), "config.annotator"), "config.annotator"
  )
  if not named.cost:
    return judge
  if judge.cost is not None:
    raise UserError(
      "is a second cost: the judge has one.", where="config.annotator.cost"
    )
  whole = Named(named.function, named.scale, "config.annotator", tools)
  cost = load_one(whole, named.cost, "annotator.cost")
  return judge._replace(cost=from_cost(cost).cost)


def load_gold(
  settings: Settings,
  load: Load,
  reading: Callable[[], Reading | None] = lambda: None,
) -> Judge | None:
  """Makes the judge that only measures; None where the config names none.

  Arguments and errors are those of `load_judge`.
  """
  if not settings.annotator.gold:
    return None
  if load_judge(settings, load, reading) is None:
    raise UserError(
      "is a judge beside the one that a stage learns from, and there is none.",
      where="config.annotator.gold",
      remedy="Name the first judge in config.annotator.function.",
    )
  tools = tools_of(settings, load, reading)
  where = "config.annotator.gold"
  return _comparing(tools.judge(settings.annotator.gold, where), where)


def _comparing(judge: Judge, where: str) -> Judge:
  """Returns a judge; raises UserError if nothing is compared by it."""
  if judge.reward is None and judge.preference is None:
    raise UserError(
      "gives costs alone, by which nothing is compared.",
      where=where,
      remedy="Combine it with a judge of rewards: kind='combined', how='sum',"
      " with its weight in `penalties` or `costs`.",
    )
  return judge


def tools_of(
  settings: Settings, load: Load, reading: Callable[[], Reading | None]
) -> Tools:
  """What the judges of a config are made with; arguments as `load_judge`'s."""
  columns = [*settings.data.judge_columns]
  columns += (c for s in settings.stages for c in s.data.judge_columns)
  columns = list(dict.fromkeys(columns))

  def judge(description: Description, where: str) -> Judge:
    kind, named, values = _read(description, where, tools)
    return kind.make(named, **values)

  def made(description: Description, where: str) -> Iterable[str]:
    kind, named, values = _read(description, where, tools)
    return kind.made_of(named, **values)

  tools = Tools(load, judge, made, lambda: columns, reading)
  return tools


def made_of(settings: Settings) -> str:
  """A text that changes with what decides the judge's numbers; "" without one.

  The config's own keys aren't in it: a run's folder keeps them anyway.
  """
  tools = tools_of(settings, _unloaded, lambda: None)
  named = settings.annotator
  kind = _kind(named.kind, "config.annotator.kind")
  if not named.function and not _settings(kind) & set(named.settings):
    return ""
  return " ".join(tools.made_of(_described(settings), "config.annotator"))


def gold_made_of(settings: Settings) -> str:
  """As `made_of`, of the judge that only measures."""
  if not settings.annotator.gold:
    return ""
  tools, where = tools_of(settings, _unloaded, lambda: None), "annotator.gold"
  return " ".join(tools.made_of(settings.annotator.gold, f"config.{where}"))


def _described(settings: Settings) -> Description:
  named = settings.annotator
  return {
    "function": named.function,
    "kind": named.kind,
    "scale": named.scale,
    "settings": named.settings,
  }


def _read(
  description: Description, where: str, tools: Tools
) -> tuple[JudgeKind, Named, dict[str, Any]]:
  """(kind, named, settings) of a judge's description."""
  if not isinstance(description, Mapping):
    raise UserError(
      f"{description!r} is not a judge.",
      where=where,
      remedy="Write a section with `function`, `kind` and `settings`.",
    )
  known = ("function", "kind", "scale", "settings")
  for key in description:
    if key not in known:
      raise UserError(
        "is not a key here.",
        where=f"{where}.{key}",
        remedy=nearest(str(key), known),
      )
  kind = _kind(description.get("kind", "reward"), f"{where}.kind")
  check_type(description.get("settings", {}), Mapping, f"{where}.settings")
  values = dict(description.get("settings", {}))
  able = _settings(kind)
  made_by = kind.make
  while isinstance(made_by, functools.partial):
    made_by = made_by.func
  hints = typing.get_type_hints(made_by)
  for key, value in values.items():
    if key not in able:
      raise UserError(
        f"judges of kind {description.get('kind', 'reward')!r} have no such"
        " setting.",
        where=f"{where}.settings.{key}",
        remedy=nearest(key, sorted(able)) if able else "They have none.",
      )
    check_type(value, hints[key], f"{where}.settings.{key}")
  scale = description.get("scale", 1.0)
  if isinstance(scale, bool) or not isinstance(scale, int | float):
    raise UserError(f"{scale!r} is not a number.", where=f"{where}.scale")
  checked_scale(scale)
  function = description.get("function", "")
  if not isinstance(function, str):
    raise UserError(f"{function!r} is not a name.", where=f"{where}.function")
  return kind, Named(function, scale, where, tools), values


def _kind(name: Any, where: str) -> JudgeKind:
  if name not in JUDGES:
    raise UserError(
      f"{name!r} is no kind of judge.",
      where=where,
      remedy=nearest(str(name), JUDGES),
    )
  return JUDGES[name]


def _settings(kind: JudgeKind) -> set[str]:
  return set(hyperparameters(kind.make))


def _unloaded(name: str, *others: Any) -> Any:
  raise AssertionError(f"{name} is loaded to make a hash")


__all__ = [
  "JUDGES",
  "Description",
  "JudgeKind",
  "Named",
  "Reading",
  "Tools",
  "gold_made_of",
  "load_gold",
  "load_judge",
  "made_of",
  "tools_of",
]
