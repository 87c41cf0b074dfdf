"""An algorithm's hyperparameters: its functions' keyword-only arguments."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jalign import losses
from jalign.errors import UserError, nearest
from jalign.online.algorithm import Algorithm
from jalign.online.carry import Carry
from jalign.online.updates import Updates

_NO_NUMBERS = (bool, str, list, tuple, Mapping, type(None))
REQUIRED = inspect.Parameter.empty  # stands for a missing default


def hyperparameters(algorithm: Algorithm) -> dict[str, Any]:
  """Name of each hyperparameter -> its default, or REQUIRED if it has none.

  `passes` and `minibatches` are among them, and `samples` where the row lets it
  choose; the loss's hyperparameters aren't.
  """
  known: dict[str, Any] = {}
  for function in _functions(algorithm):
    known |= losses.hyperparameters(function)
  if algorithm.samples is not None:
    known["samples"] = algorithm.draws.count(algorithm.draws[0])
  return known | algorithm.updates._asdict()


def bind(
  algorithm: Algorithm,
  settings: Mapping[str, Any],
  where: str = "algorithm_settings",
) -> Algorithm:
  """Binds hyperparameters to the functions of an algorithm.

  A hyperparameter is bound to every function that has an argument of its name.

  Args:
    algorithm: a row of `ALGORITHMS`, or an `Algorithm` of your own.
    settings: values of some of the hyperparameters.
    where: the section of the settings, for errors.

  Returns:
    The algorithm with its hyperparameters bound.

  Raises:
    UserError: there is no such hyperparameter, its value can't be used, or a
      hyperparameter has neither a value nor a default; the error names the key.
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
    _check_sort(value, known[name], f"{where}.{name}")
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
  if "samples" in settings:
    algorithm = _sized(algorithm, settings["samples"], f"{where}.samples")
  return algorithm._replace(
    arrange=own(algorithm.arrange),
    carry=Carry(*map(own, algorithm.carry)),
    reference=own(algorithm.reference),
    measure=own(algorithm.measure),
    restart=own(algorithm.restart),
    updates=Updates(**updates),
  )


def _check_sort(value: Any, default: Any, where: str) -> None:
  """Raises UserError for no number where the default is one, and so for flags.

  Numbers may be arrays, whose values aren't looked at.
  """
  if isinstance(default, bool):
    if not isinstance(value, bool | np.bool_):
      raise UserError(f"{value!r} is neither true nor false.", where=where)
  elif isinstance(default, int | float) and isinstance(value, _NO_NUMBERS):
    raise UserError(f"{value!r} is not a number.", where=where)


def _sized(algorithm: Algorithm, samples: Any, where: str) -> Algorithm:
  """The algorithm with another number of responses by its first draw."""
  assert algorithm.samples is not None  # else the setting is unknown
  least, most = algorithm.samples
  fits = isinstance(samples, int) and not isinstance(samples, bool)
  if not fits or samples < least or (most is not None and samples > most):
    raise UserError(
      f"{samples!r} is not a number of responses that the algorithm can use.",
      where=where,
      remedy=f"Choose an integer from {least}"
      + (" on." if most is None else f" to {most}."),
    )
  first = algorithm.draws[0]
  others = tuple(draw for draw in algorithm.draws if draw != first)
  return algorithm._replace(draws=(first,) * samples + others)


def _functions(algorithm: Algorithm) -> tuple[Callable[..., Any], ...]:
  row = algorithm
  return (row.arrange, *row.carry, row.reference, row.measure, row.restart)
