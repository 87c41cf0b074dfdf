"""Reads a checkpoint's arrays back and compares them with what was saved.

A library may write files that nobody can read, or read files of another run,
and a manifest of hashes would certify them. So arrays are read once, one at a
time, before their checkpoint counts.
"""

import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore

from jalign.errors import UserError
from jalign.sharding import fetch
from jalign.training.offload import on_device

_WORDS = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint32"}
_CHUNK = 2**22  # words


class ArrayDigest(NamedTuple):
  """Facts by which an array is compared.

  Attributes:
    shape: its shape.
    dtype: name of its dtype.
    sums: two checksums of its bits; the second depends on their places, too.
  """

  shape: tuple[int, ...]
  dtype: str
  sums: tuple[int, int]


def checksums(x: Any) -> jax.Array:
  """[2] uint32 checksums of an array's bits, computed on its own device."""
  x = on_device(x)
  if x.dtype == jnp.bool_:
    x = x.astype(jnp.uint8)
  bits = jax.lax.bitcast_convert_type(x, jnp.dtype(_WORDS[x.dtype.itemsize]))
  bits = bits.astype(jnp.uint32)
  # The place in the flat array, without a flat array: to make one, the parts of
  # a sharded array would be gathered.
  place = jnp.zeros(bits.shape, jnp.uint32)
  for axis, stride in enumerate(_strides(bits.shape)):
    ids = jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    place += ids * jnp.uint32(stride % 2**32)
  return jnp.stack([jnp.sum(term) for term in _terms(bits, place)])


def _strides(shape: tuple[int, ...]) -> list[int]:
  """How far the places of neighbours along each axis are apart."""
  return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _on_host(x: np.ndarray) -> tuple[int, int]:
  """`checksums` by NumPy, some megabytes at a time."""
  words = np.ascontiguousarray(x).reshape(-1).view(_WORDS[x.dtype.itemsize])
  totals = [0, 0]
  for at in range(0, words.size, _CHUNK):
    bits = words[at : at + _CHUNK].astype(np.uint32)
    place = np.arange(bits.size, dtype=np.uint32) + np.uint32(at % 2**32)
    for i, term in enumerate(_terms(bits, place)):
      totals[i] += int(np.sum(term, dtype=np.uint64))
  a, b = (total % 2**32 for total in totals)
  return a, b


def _terms(bits, place):
  mixed = (bits ^ (place * np.uint32(2654435761))) * np.uint32(2246822519)
  return bits, mixed ^ (mixed >> 15)


def digests(tree: Any) -> list[ArrayDigest]:
  """Facts of a tree's arrays, sorted by the facts.

  On accelerators the checksums are computed there, and no array is gathered.
  """
  if jax.default_backend() == "cpu" and jax.process_count() == 1:
    sums = [_on_host(np.asarray(x)) for x in jax.tree.leaves(tree)]
  else:
    sums = fetch(jax.tree.leaves(_on_devices(tree)))
  return sorted(map(_digest, jax.tree.leaves(tree), sums))


@jax.jit
def _on_devices(tree):
  return jax.tree.map(checksums, tree)


def _digest(array: Any, sums: Any) -> ArrayDigest:
  a, b = map(int, sums)
  return ArrayDigest(tuple(array.shape), np.dtype(array.dtype).name, (a, b))


def check(folder: pathlib.Path, saved: Mapping[str, list[ArrayDigest]]) -> None:
  """Compares the arrays on disk with those that were saved.

  Args:
    folder: the checkpoint's folder.
    saved: name of an item -> digests of its arrays.

  Raises:
    UserError: an array can't be read, is missing, or differs.
  """
  for name, expected in saved.items():
    try:
      facts = sorted(_read(folder / name))
    except Exception as e:  # the library raises ValueError and other errors
      raise _unsound(folder, f"{name} can't be read back ({e})") from e
    if facts != expected:
      raise _unsound(folder, f"{name} isn't what was saved")


def _read(item: pathlib.Path) -> Iterator[ArrayDigest]:
  store = {
    "driver": "ocdbt",
    "base": {"driver": "file", "path": f"{item}/"},
  }
  for key in tensorstore.KvStore.open(store).result().list().result():
    name, _, end = key.decode().rpartition("/")
    if end == ".zarray":
      spec = {"driver": "zarr", "kvstore": store | {"path": f"{name}/"}}
      array = tensorstore.open(spec, open=True).result().read().result()
      yield _digest(array, _on_host(array))


def _unsound(folder: pathlib.Path, problem: str) -> UserError:
  return UserError(
    f"a checkpoint was written, and {problem}: the checkpoint doesn't count.",
    where=str(folder),
    remedy="Earlier checkpoints are kept. Choose a --workdir on another disk,"
    " or with another name.",
  )
