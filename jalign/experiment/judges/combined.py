"""Judges made of other judges, which a config describes in `judges`."""

import pathlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from jalign.errors import UserError, nearest
from jalign.experiment.judges.checked import (
  check_given,
  check_type,
  file_hash,
  given,
  unscaled,
)
from jalign.experiment.judges.kind import Description, JudgeKind, Named
from jalign.feedback import Judge, combine, noise
from jalign.feedback.by_task import by_task
from jalign.feedback.evidence import both_orders
from jalign.feedback.nested import Judges
from jalign.feedback.references import Reference, read_references
from jalign.losses.signature import hyperparameters

_NONE: Mapping[str, Any] = MappingProxyType({})


def _sum(judges: Judges, *, weights: Mapping[str, float], **rest: Any) -> Judge:
  return combine.weighted(judges, weights, **rest)


def _both_orders(judges: Judges, **settings: Any) -> Judge:
  if len(judges) != 1:
    raise UserError(
      f"{len(judges)} judges can't be asked as one.", where=settings["where"]
    )
  return both_orders(next(iter(judges.values())), **settings)


# How judges are combined -> (the function that combines them, its settings).
_HOW: dict[str, tuple[Callable[..., Judge], Callable[..., Any]]] = {
  "sum": (_sum, combine.weighted),
  "and": (combine.all_good, combine.all_good),
  "all_pass": (combine.all_pass, combine.all_pass),
  "ensemble": (combine.ensemble, combine.ensemble),
  "mixture": (combine.mixture, combine.mixture),
  "pool": (noise.pool, noise.pool),
  "both_orders": (_both_orders, both_orders),
  "by_task": (by_task, by_task),
}


def _make(
  named: Named,
  *,
  judges: Mapping[str, Description] = _NONE,
  how: str = "sum",
  weights: Mapping[str, float] | None = None,
  penalties: Mapping[str, float] | None = None,
  costs: Mapping[str, float] | None = None,
  references: Mapping[str, float | str] | None = None,
  quantile: float | None = None,
  threshold: float | None = None,
  rule: str | None = None,
  k: float | None = None,
  mean: str | None = None,
  seed: int | None = None,
  column: str | None = None,
) -> Judge:
  """Combines judges.

  Args:
    named: the judge's description; it names no function.
    judges: name -> function, kind, scale and settings of a judge.
    how: a key of `_HOW`, whose function has the other settings; None is its
      default.
    weights: see `combine.weighted`, `combine.mixture` and `noise.pool`.
    penalties: see `combine.weighted`.
    costs: see `combine.weighted`.
    references: of "and": a number for each judge, or a file of JSON lines with
      "prompt" and, under the judge's name, rewards of reference responses.
    quantile: of "and": the quantile of these rewards.
    threshold: see `combine.all_pass`.
    rule: see `combine.ensemble`.
    k: see `combine.ensemble`.
    mean: see `evidence.both_orders`.
    seed: see `noise.pool`.
    column: of "by_task": the column of the data that names a prompt's judge.
  """
  values = given(
    {k: v for k, v in locals().items() if k not in ("named", "judges", "how")}
  )
  where = f"{named.where}.settings"
  if named.function:
    raise UserError(
      f"{named.function!r} isn't read: the judges are those of `judges`.",
      where=f"{named.where}.function",
      remedy=f"Leave it out, and describe judges in {where}.judges.",
    )
  if how not in _HOW:
    raise UserError(
      f"{how!r} is no way to combine judges.",
      where=f"{where}.how",
      remedy=nearest(str(how), _HOW),
    )
  function, settings = _HOW[how]
  for key, value in values.items():
    if key in ("weights", "penalties", "costs", "references") and not (
      isinstance(value, Mapping)
    ):
      raise UserError(
        f"{value!r} isn't a number for each judge.", where=f"{where}.{key}"
      )
  if how == "and":
    values["references"] = _references(values, where)
  _check(how, settings, values, where)
  parts = {
    name: named.tools.judge(description, f"{where}.judges.{name}")
    for name, description in _listed(judges, where).items()
  }
  if "scale" in hyperparameters(function) or how == "sum":
    values["scale"] = named.scale
  else:
    unscaled(named)
  if how == "sum":
    values.setdefault("weights", {})
  if how == "mixture":
    values.setdefault("weights", None)
  return function(parts, **values, where=where)


def _check(
  how: str,
  settings: Callable[..., Any],
  values: Mapping[str, Any],
  where: str,
) -> None:
  """Checks the settings of a way to combine."""
  places = {"sum": ["weights"], "mixture": ["weights"], "and": ["references"]}
  own = {k: v for k, v in values.items() if k not in places.get(how, [])}
  check_given(settings, own, f"judges combined by {how!r}", where)


def _listed(judges: Any, where: str) -> Mapping[str, Description]:
  if not isinstance(judges, Mapping) or not judges:
    raise UserError(
      "describes no judges.",
      where=f"{where}.judges",
      remedy='Write {"NAME": {"function": ..., "kind": ...}, ...}.',
    )
  return judges


def _references(values: dict[str, Any], where: str) -> dict[str, Reference]:
  """The references by judge, read from files where these are named."""
  quantile = values.pop("quantile", 0.5)
  check_type(quantile, float, f"{where}.quantile")
  found: dict[str, Reference] = {}
  for name, value in values.get("references", {}).items():
    if isinstance(value, str):
      found[name] = read_references(pathlib.Path(value), name, quantile)
    else:
      check_type(value, float, f"{where}.references.{name}")
      found[name] = float(value)
  return found


def _made_of(
  named: Named,
  *,
  judges: Mapping[str, Description] = _NONE,
  references: Mapping[str, Any] | None = None,
  **settings: Any,
) -> Iterable[str]:
  del settings
  where = f"{named.where}.settings"
  for name, description in _listed(judges, where).items():
    yield from named.tools.made_of(description, f"{where}.judges.{name}")
  for name, value in (references or {}).items():
    if isinstance(value, str):
      yield file_hash(value, f"{where}.references.{name}")


COMBINED = JudgeKind(
  f"several judges as one, by `how`: {', '.join(_HOW)}; `judges` describes"
  " them, and no function is named",
  _make,
  _made_of,
)
