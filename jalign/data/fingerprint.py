"""Hashes encoded examples and their order."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np


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
  for value in (v for example in encoded for v in vars(example).values()):
    for array in value if isinstance(value, tuple) else (value,):
      if not isinstance(array, str):  # None is NaN
        array = np.asarray(array, np.float64)
        if separated:
          digest.update(f"{array.shape}".encode())
        digest.update(array.tobytes())
  return digest.hexdigest()[:16]
