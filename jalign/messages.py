"""Values as bytes, for messages between the processes of a run.

Not by pickle, which runs code that a message names: whoever reaches the port of
a run could send one.
"""

import base64
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def packed(value: Any) -> bytes:
  """The bytes of a value.

  Args:
    value: None, bools, ints, floats, texts, paths and arrays of numbers, in
      lists, tuples and mappings.

  Raises:
    TypeError: the value is of another type.
  """
  return json.dumps(_plain(value)).encode()


def unpacked(data: bytes) -> Any:
  """The value that `packed` made bytes of; named tuples become tuples."""
  return _value(json.loads(data))


def _plain(x: Any) -> Any:
  if isinstance(x, np.ndarray | np.generic):
    array = np.asarray(x)
    if array.dtype.hasobject:
      raise TypeError("an array of Python objects can't be sent")
    text = base64.b64encode(array.tobytes()).decode()
    return {"array": [array.dtype.str, list(array.shape), text]}
  if x is None or isinstance(x, bool | int | float | str):
    return x
  if isinstance(x, pathlib.PurePath):
    return {"path": str(x)}
  if isinstance(x, tuple):
    return {"tuple": [_plain(y) for y in x]}
  if isinstance(x, list):
    return [_plain(y) for y in x]
  if isinstance(x, Mapping):
    return {"map": [[_plain(k), _plain(v)] for k, v in x.items()]}
  raise TypeError(f"a value of type {type(x).__name__} can't be sent")


def _value(x: Any) -> Any:
  if isinstance(x, list):
    return [_value(y) for y in x]
  if not isinstance(x, dict):
    return x
  ((kind, held),) = x.items()
  if kind == "array":
    dtype, shape, text = held
    flat = np.frombuffer(base64.b64decode(text), np.dtype(dtype))
    return flat.reshape(shape).copy()[()]  # a number, if there are no axes
  if kind == "path":
    return pathlib.Path(held)
  if kind == "tuple":
    return tuple(_value(y) for y in held)
  return {_value(k): _value(v) for k, v in held}
