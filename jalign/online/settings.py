"""Hyperparameters of an algorithm: keyword-only arguments of its functions."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from jalign import losses
from jalign.errors import UserError, nearest
from jalign.online.algorithms import Algorithm
from jalign.online.carry import Carry
from jalign.online.updates import Updates

REQUIRED = inspect.Parameter.empty  # the default of one that has none


def hyperparameters(algorithm: Algorithm) -> dict[str, Any]:
  """Name -> default, REQUIRED where there is none; passes and minibatches too.

  The loss's own aren't among them.
  """
  known: dict[str, Any] = {}
  for function in _functions(algorithm):
    known |= losses.hyperparameters(function)
  return known | algorithm.updates._asdict()


def bind(
  algorithm: Algorithm,
  settings: Mapping[str, Any],
  where: str = "algorithm_settings",
) -> Algorithm:
  """The algorithm with its hyperparameters in place.

  A name goes to every function that takes it.

  Args:
    algorithm: a row.
    settings: of some of its hyperparameters.
    where: their section, for errors.

  Raises:
    UserError: there is no such hyperparameter, or one has neither a value nor
      a default; names the key.
  """
  known = hyperparameters(algorithm)
  for name, value in settings.items():
    if name not in known:
      raise UserError(
        "is not a hyperparameter of the algorithm.",
        where=f"{where}.{name}",
        remedy=nearest(name, known),
      )
    if isinstance(value, float) and not math.isfinite(value):
      at = f"{where}.{name}"
      raise UserError(f"{value} is not a finite number.", where=at)
  for name, default in known.items():
    if default is REQUIRED and name not in settings:
      raise UserError("needs a value.", where=f"{where}.{name}")

  def own(function: Callable[..., Any]) -> Callable[..., Any]:
    taken = losses.hyperparameters(function).keys() & settings.keys()
    if not taken:
      return function
    return functools.partial(function, **{k: settings[k] for k in taken})

  updates = algorithm.updates._asdict()
  updates |= {k: v for k, v in settings.items() if k in updates}
  for name, value in updates.items():
    if not isinstance(value, int) or value < 1:
      raise UserError(
        f"{value!r} is not an integer of at least 1.", where=f"{where}.{name}"
      )
  return algorithm._replace(
    arrange=own(algorithm.arrange),
    carry=Carry(*map(own, algorithm.carry)),
    reference=own(algorithm.reference),
    measure=own(algorithm.measure),
    updates=Updates(**updates),
  )


def _functions(algorithm: Algorithm) -> tuple[Callable[..., Any], ...]:
  row = algorithm
  return (row.arrange, *row.carry, row.reference, row.measure)
