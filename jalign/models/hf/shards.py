"""The safetensors files of a checkpoint: one file, or several and an index."""

import contextlib
import functools
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors

from jalign.errors import UserError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_LARGEST_HALF = 65504.0  # largest finite float16
HEAD = "lm_head.weight"
SCORE, SCORE_BIAS = "score.weight", "score.bias"


class Shards:
  """Open files, from which tensors are read a slice at a time.

  Attributes:
    folder: folder of the files.
    files: name of a tensor -> name of its file.
  """

  def __init__(self, folder: pathlib.Path, files: Mapping[str, Any]):
    self.folder = folder
    self.files = {name: file for name, (file, _) in files.items()}
    self._open = {
      name: functools.partial(opened.get_slice, name)
      for name, (_, opened) in files.items()
    }

  def slice(self, name: str) -> Any:
    """A lazy view of a tensor.

    Indexing (`[...]`) reads values; `get_shape()` and `get_dtype()` don't.
    """
    return self._open[name]()

  def prefixed(self, prefix: str, but: tuple[str, ...]) -> "Shards":
    """The same files, with a prefix before all names except those in `but`."""
    again = Shards(self.folder, {})
    for name, file in self.files.items():
      full = name if name in but else prefix + name
      again.files[full], again._open[full] = file, self._open[name]
    return again

  def shape(self, name: str) -> tuple[int, ...]:
    """Shape of a tensor."""
    return tuple(self.slice(name).get_shape())

  def dtype(self, name: str) -> str:
    """Dtype of a tensor by its name in safetensors, e.g. "BF16"."""
    return self.slice(name).get_dtype()

  def where(self, name: str) -> str:
    """The file that holds a tensor, for error messages."""
    return str(self.folder / self.files[name])


@contextlib.contextmanager
def open_shards(folder: pathlib.Path) -> Iterator[Shards]:
  """Opens all files of a checkpoint.

  Raises:
    UserError: there are no safetensors files, a file is missing or damaged, or
      the index and the files disagree.
  """
  index = _index(folder)
  names = sorted(set(index.values())) if index else [SINGLE]
  with contextlib.ExitStack() as stack:
    tensors: dict[str, tuple[str, Any]] = {}
    for file in names:
      opened = stack.enter_context(_opened(folder / file))
      for name in opened.keys():  # noqa: SIM118 (`opened` isn't a mapping)
        if name in tensors:
          raise UserError(
            f"{name} is in {tensors[name][0]}, too.", where=str(folder / file)
          )
        tensors[name] = file, opened
    if index:
      _check_index(folder, index, {k: file for k, (file, _) in tensors.items()})
    yield Shards(folder, tensors)


def _index(folder):
  """Name of a tensor -> name of its file; {} for a single file."""
  path = folder / INDEX
  if not path.is_file():
    if (folder / SINGLE).is_file():
      return {}
    there = sorted(p.name for p in folder.glob("*.bin"))
    raise UserError(
      f"there is neither {SINGLE} nor {INDEX}"
      + (f", only {', '.join(there[:3])}" if there else "")
      + ".",
      where=str(folder),
      remedy="Save the model with safetensors: save_pretrained of transformers"
      " does.",
    )
  try:
    weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    good = isinstance(weight_map, dict) and all(
      isinstance(x, str) and "/" not in x for x in weight_map.values()
    )
  except (OSError, ValueError, KeyError, TypeError, RecursionError):
    good = False
  if not good:
    raise UserError('it has no "weight_map" of files.', where=str(path))
  return weight_map


@contextlib.contextmanager
def _opened(path):
  if not path.is_file():
    raise UserError(
      "the index names this file, but it doesn't exist.",
      where=str(path),
      remedy="Copy or download the checkpoint again.",
    )
  try:
    opened = safetensors.safe_open(str(path), framework="numpy")
  except Exception as error:  # safetensors raises an exception of its own
    size = path.stat().st_size
    raise UserError(
      f"the file ({size} bytes) can't be read: {error}.",
      where=str(path),
      remedy="The file may be cut short: copy or download it again.",
    ) from None
  with opened as file:
    yield file


def _check_index(folder, index, held):
  where = str(folder / INDEX)
  lacking = [name for name in index if held.get(name) != index[name]]
  more = held.keys() - index.keys()
  if lacking or more:
    said = [
      f"{verb}: {listed(names)}"
      for verb, names in (
        ("not in the files that the index names", lacking),
        ("in the files, but not in the index", more),
      )
      if names
    ]
    raise UserError(f"{'; '.join(said)}.", where=where)


def listed(names: Any, most: int = 8) -> str:
  """At most `most` of the names, and how many more there are."""
  names = sorted(names)
  more = f" and {len(names) - most} more" if len(names) > most else ""
  return ", ".join(names[:most]) + more


def not_finite(x: np.ndarray, dtype: str = "") -> int:
  """How many values of an array are NaN or infinite.

  Args:
    x: an array of floats.
    dtype: dtype that the array will be cast to. If it is float16, values that
      are too large for float16 count, too.
  """
  flat, count = np.ascontiguousarray(x).reshape(-1), 0
  narrower = dtype == "float16" and x.dtype != np.float16
  for start in range(0, flat.size, 2**16):  # a CPU cache holds such a part
    part = flat[start : start + 2**16]
    if narrower:
      bad = ~(np.abs(part.astype(np.float32)) <= _LARGEST_HALF)
    elif x.itemsize > 2:
      bad = ~np.isfinite(part)
    else:  # all bits of the exponent are 1; numpy itself is slow with bfloat16
      ones = np.uint16(0x7C00 if x.dtype == np.float16 else 0x7F80)
      bad = (part.view(np.uint16) & ones) == ones
    if bad.any():
      count += int(bad.sum())
  return count
