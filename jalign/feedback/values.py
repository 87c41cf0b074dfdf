"""Reads numbers that people's own functions return, or says what is wrong."""

import decimal
import inspect
import numbers
from typing import Any

import jax
import numpy as np

from jalign.errors import UserError
from jalign.sharding import fetch

_REMEDIES = {
  "a coroutine": "Write it with def, not async def.",
  "a generator": "Return a list of what it yields.",
  "None": "It may lack a return.",
}


def refuse(value: Any, wanted: str, where: str, at: str = "") -> UserError:
  """Makes the error for a value that isn't what was wanted.

  Args:
    value: the value that a function gave; a coroutine is closed.
    wanted: a noun phrase, such as "a number".
    where: the function that gave the value.
    at: the place of the value among several, such as " in place 1".
  """
  what = describe(value)
  if inspect.iscoroutine(value):
    value.close()  # or Python warns that nobody awaited it
  return UserError(
    f"gave {what}{at}, not {wanted}.",
    where=where,
    remedy=_REMEDIES.get(what, ""),
  )


def describe(value: Any) -> str:
  """Describes a value in a few words."""
  if value is None:
    return "None"
  if inspect.isawaitable(value):
    return "a coroutine"
  if inspect.isgenerator(value):
    return "a generator"
  if isinstance(value, str):
    return f"the text {shortened(value)}"
  if isinstance(value, complex | np.complexfloating):
    return "a complex number"
  if isinstance(value, int) and value.bit_length() > 1024:
    return "an integer that no float holds"
  if isinstance(value, numbers.Real | decimal.Decimal):
    return f"{value}"
  if isinstance(value, list | tuple):
    return f"a {type(value).__name__} of {len(value)}"
  shape = getattr(value, "shape", None)
  kind = type(value).__name__
  return f"{kind} of shape {shape}" if shape is not None else f"a {kind}"


def shortened(text: str, most: int = 40) -> str:
  """A text in quotes, cut after `most` characters."""
  return repr(text if len(text) <= most else f"{text[:most]}...")


def number(value: Any, where: str = "annotator") -> float:
  """Reads a finite number from whatever a function returned.

  Raises:
    UserError: the value isn't a finite number.
  """
  array = _array(value, "a number", where)
  if array.shape:
    raise refuse(value, "a number", where)
  if not np.isfinite(array):
    raise UserError(
      f"gave {float(array)}.", where=where, remedy="Numbers must be finite."
    )
  return float(array)


def vector(
  values: Any, count: int, where: str = "annotator", of: str = "pairs"
) -> np.ndarray:
  """Reads [count] float64 numbers from whatever a function returned.

  Raises:
    UserError: the values aren't that many numbers; NaN counts as a number here.
  """
  wanted = f"{count} numbers for {count} {of}"
  if isinstance(values, list | tuple):
    for i, value in enumerate(values):
      number = _array_of(value)
      if number is None or number.shape:
        raise refuse(value, "a number", where, f" in place {i}")
  array = _array(values, wanted, where)
  if array.shape != (count,):
    raise UserError(f"gave shape {array.shape}, not {wanted}.", where=where)
  return array


def scores(
  values: Any,
  count: int,
  name: str,
  where: str = "annotator",
  missing: bool = False,
) -> Any:
  """Checks a judge's rewards or costs.

  Args:
    values: what the judge's function returned. Of an array on devices only the
      shape is checked here; `read` checks its values.
    count: number of responses.
    name: "reward" or "cost".
    where: the function that gave the values.
    missing: whether NaN stands for no answer.

  Returns:
    [count] float64, or the array on devices.

  Raises:
    UserError: the values aren't `count` finite numbers.
  """
  if isinstance(values, jax.Array):
    if values.shape != (count,):
      raise UserError(
        f"gave shape {values.shape}, not {count} numbers for {count}"
        " responses.",
        where=where,
      )
    return values
  return read(vector(values, count, where, "responses"), name, where, missing)


def read(
  values: Any, name: str, where: str = "annotator", missing: bool = False
) -> np.ndarray:
  """Reads [N] float64 numbers from what `scores` returned.

  Args:
    values: what `scores` returned.
    name: "reward" or "cost".
    where: the function that gave the values.
    missing: whether NaN stands for no answer.

  Raises:
    UserError: a number isn't finite.
  """
  array = np.asarray(fetch(values), np.float64)
  bad = np.flatnonzero(~(np.isfinite(array) | (missing & np.isnan(array))))
  if bad.size:
    raise UserError(
      f"gave a {name} of {array[bad[0]]} for response {bad[0]} of its batch.",
      where=where,
      remedy=f"{name.capitalize()}s must be finite.",
    )
  return array


def probabilities(
  values: Any, count: int, where: str = "annotator", missing: bool = False
) -> np.ndarray:
  """Reads [count] float32 preferences from whatever a function returned.

  Args:
    values: what the function returned.
    count: number of pairs.
    where: the function that gave the values.
    missing: whether NaN stands for no answer.

  Raises:
    UserError: the values aren't that many numbers in [0, 1].
  """
  array = vector(values, count, where)
  inside = (array >= 0) & (array <= 1)  # NaN is not
  bad = ~(inside | (missing & np.isnan(array)))
  if bad.any():
    at = int(np.flatnonzero(bad)[0])
    raise UserError(
      f"gave {array[at]} for pair {at} of its batch.",
      where=where,
      remedy="Preferences must be in [0, 1].",
    )
  return array.astype(np.float32)


def _array(value: Any, wanted: str, where: str) -> np.ndarray:
  array = _array_of(value)
  if array is None:
    raise refuse(value, wanted, where)
  return array


def _array_of(value: Any) -> np.ndarray | None:
  """Real numbers as float64; None for anything else, such as "1.0"."""
  if value is None or isinstance(value, str | bytes) or np.ma.is_masked(value):
    return None
  try:
    array = np.asarray(fetch(value) if isinstance(value, jax.Array) else value)
    if array.dtype.kind == "O" and not all(
      isinstance(x, numbers.Real | decimal.Decimal) for x in array.flat
    ):
      return None
    if array.dtype.kind in "USMmc":
      return None
    return array.astype(np.float64)
  except Exception:  # a ragged list, or another library's array on a device
    return None
