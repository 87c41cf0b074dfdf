"""Turns the loss section of a config into a function, and checks it."""

import functools
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jalign import losses
from jalign.errors import UserError
from jalign.experiment.config import own_loss
from jalign.experiment.config.algorithms import algorithm_of
from jalign.experiment.config.loss_section import LIST
from jalign.experiment.config.settings import StageSettings
from jalign.losses.signature import check_settings
from jalign.training.kinds import KINDS, Kind, unread, vocabulary


class BoundLoss(NamedTuple):
  """A loss with its hyperparameters, as `make_objective` takes it.

  Attributes:
    function: arrays in, losses per example out.
    batch: the loss's kind of batch.
    denominator: "examples" or "tokens".
    coupled: whether the losses of a batch's examples depend on each other.
    title: name for reports, e.g. "dpo(beta=0.1)".
  """

  function: Callable[..., Any]
  batch: Kind
  denominator: str
  coupled: bool
  title: str


def bind(stage: StageSettings) -> BoundLoss:
  """The loss of a stage.

  `loss` is `{"name": "dpo", "beta": 0.1}`, or a sum, `{"weights": {"dpo": 1.0,
  "sft": 0.2}, "dpo": {"beta": 0.5}}`: weights by name, and the hyperparameters
  of a term under its name (see `losses.weighted_sum`).

  Raises:
    UserError: the loss or a hyperparameter is unknown, or a number isn't
      finite; the error names the key.
  """
  where = f"config.{stage.name}.loss"
  section = dict(stage.loss)
  _check_numbers(section, where)
  own: losses.Entry | None = None
  if stage.samples:
    loss = algorithm_of(stage).loss
    if not isinstance(loss, str):
      own = loss
    name = loss if own is None else losses.name_of(own.function)
    if section.setdefault("name", name) != name:
      raise UserError(
        f"{section['name']!r} is not the loss of {stage.algorithm}.",
        where=f"{where}.name",
        remedy=f"Leave the name out: it is {name!r}.",
      )
  try:
    if "weights" in section:
      bound = _sum(section, where)
    else:
      bound = _single(section, where, own)
    if not stage.samples:
      _check_read(bound)
    return bound
  except UserError as e:
    at = e.where if e.where.startswith(where) else where
    raise UserError(e.problem, where=at, remedy=e.remedy) from e


def _check_numbers(section: Mapping[str, Any], where: str) -> None:
  """Raises UserError for NaN and infinity, which comparisons may let pass."""
  for key, value in section.items():
    if isinstance(value, Mapping):
      _check_numbers(value, f"{where}.{key}")
    elif isinstance(value, float) and not math.isfinite(value):
      at = f"{where}.{key}"
      raise UserError(f"{value} is not a finite number.", where=at)


def beta_of(loss: BoundLoss) -> float | None:
  """A loss's temperature of implicit rewards; None if it has none."""
  names = losses.array_parameters(loss.function)
  if "ref_chosen_logps" not in names:
    return None
  return losses.hyperparameters(loss.function).get("beta")


def _single(
  section: dict[str, Any], where: str, own: losses.Entry | None
) -> BoundLoss:
  name = section.pop("name", None)
  if not isinstance(name, str):
    raise UserError(
      "the loss has no name.", where=where, remedy=f"Set {where}.name. {LIST}"
    )
  if own is None and own_loss.is_own(name):
    function, entry = own_loss.bound(name, section, where)
    name = pathlib.PurePath(name).name
  elif own is None:
    function, entry = losses.resolve(name, **section)
  else:  # an algorithm's own loss, which isn't in the catalogue
    check_settings(name, own.function, section)
    function, entry = functools.partial(own.function, **section), own
  return _bound(function, entry, f"{name}{_listed(section)}")


def _sum(section: dict[str, Any], where: str) -> BoundLoss:
  weights = section.pop("weights")
  if "name" in section:
    raise UserError(
      "the loss has a name and weights.",
      where=where,
      remedy="Give one of the two: the name of a loss, or weights of a sum.",
    )
  if not isinstance(weights, Mapping) or not all(
    isinstance(weight, int | float) for weight in weights.values()
  ):
    raise UserError(
      f"weights = {weights!r} are not a number for each loss.",
      where=where,
      remedy="Write weights = {'dpo': 1.0, 'sft': 0.2}.",
    )
  for key, value in section.items():
    if not isinstance(value, Mapping):
      raise UserError(
        f"{key} = {value!r} is not for one of the terms.",
        where=where,
        remedy=f"Write {key} = {{hyperparameter: value}} for a term {key}.",
      )
  loss = losses.weighted_sum(weights, **section)
  title = " + ".join(
    f"{weight} {name}{_listed(section.get(name, {}))}"
    for name, weight in weights.items()
  )
  return _bound(loss, loss.entry, title)


def _bound(function, entry, title: str) -> BoundLoss:
  """Traces the loss once, so that a bad hyperparameter shows before a run."""
  kind, names = KINDS[entry.batch], losses.array_parameters(function)
  axes_of = vocabulary(kind)
  absent = [name for name in names if name not in kind.gives]
  if absent:
    raise UserError(
      f"{title} takes {', '.join(absent)}, which no data source gives.",
      where="",
      remedy="Call the loss from Python, on arrays of your own.",
    )
  arrays = []
  for name in names:
    axes, _, dtype = axes_of[name].partition(" ")
    shape = tuple(int(axis) if axis.isdigit() else 2 for axis in axes)
    arrays.append(jax.ShapeDtypeStruct(shape, dtype or "float32"))
  jax.eval_shape(function, *arrays)
  return BoundLoss(function, kind, entry.denominator, entry.coupled, title)


def _check_read(bound: BoundLoss) -> None:
  """Raises UserError for a loss on arrays that samples have and data hasn't."""
  absent = unread(bound.batch, losses.array_parameters(bound.function))
  if absent:
    raise UserError(
      f"{bound.title} takes {', '.join(absent)}, which no data source gives.",
      where="",
      remedy="Name an algorithm, if one samples for this loss, or call the loss"
      " from"
      " Python, on arrays of your own.",
    )


def _listed(settings: Mapping[str, Any]) -> str:
  return "(" + ", ".join(f"{k}={v}" for k, v in settings.items()) + ")"
