"""Hashes encoded examples and their order."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

# Metadata of a dataclass's field that enters a hash only where it holds more
# than its empty value. Hashes of examples without it, which checkpoints keep,
# are then what they were before the field was added.
LATER: Mapping[str, Any] = MappingProxyType({"later": True})


def fingerprint_of(
  encoded: Sequence[Any], order: tuple, separated: bool
) -> str:
  """A hash of the examples and of what decides their order.

  Args:
    encoded: the examples; their ids, scores and labels enter the hash.
    order: everything else that decides the order.
    separated: whether the length of each array is hashed before the array, so
      that the ids [1, 2] and [3] differ from [1] and [2, 3].

  Returns:
    16 hexadecimal digits.
  """
  digest = hashlib.sha256(repr(order).encode())
  for value in (v for example in encoded for v in _values(example)):
    for array in value if isinstance(value, tuple) else (value,):
      if isinstance(array, bytes):
        digest.update(array)
      elif not isinstance(array, str):  # None is NaN
        array = np.asarray(array, np.float64)
        if separated:
          digest.update(f"{array.shape}".encode())
        digest.update(array.tobytes())
  return digest.hexdigest()[:16]


def _values(example: Any) -> Iterator[Any]:
  fields = getattr(type(example), "__dataclass_fields__", {})
  for name, value in vars(example).items():
    later = name in fields and fields[name].metadata.get("later")
    if isinstance(value, Mapping):
      value = tuple(sorted(value.items()))
      if value or not later:
        yield repr((name, value)).encode()
    elif not later:
      yield value
    elif value is not None:
      yield repr((name, value)).encode()
