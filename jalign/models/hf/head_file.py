"""jalign_head.json: what a checkpoint's other files can't say of a head.

The head of a reward model of transformers is one matrix in the model's dtype,
without a bias. The folder of any other head has two more files:
jalign_head.json, which says which head it is, and jalign_head.safetensors, with
its parameters in float32. The matrix of the checkpoint then holds the head's
linear outputs, so that transformers opens the folder, too.
"""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors.numpy
from flax import traverse_util

from jalign.errors import UserError
from jalign.models.heads import HEADS, ScoreHead
from jalign.models.preferences import FORMS
from jalign.sharding import fetch
from jalign.types import Params

FILE, TENSORS = "jalign_head.json", "jalign_head.safetensors"
_FORMAT = 1
_KEYS = (
  "format", "head", "settings", "names", "padding", "form", "tail"
)  # fmt: skip
_AGAIN = (
  f"Take the checkpoint as it was written, or remove {FILE} to read the"
  " scores as transformers does."
)


class StoredHead(NamedTuple):
  """A head with what a checkpoint says of the head.

  Attributes:
    name: the head's name in `jalign.models.HEADS`.
    settings: the head's settings, beside the model's width.
    params: parameters of the head, in float32.
    names: names of the objectives, M for `objectives` and 1 for `scalar`; ()
      for heads whose outputs aren't scores.
    padding: token whose repetitions at a row's end aren't read: the score is
      that of the last other token. None reads the last token, whatever the
      token is.
    form: form of a preference model's log-odds, a key of
      `jalign.models.preferences.FORMS`; "" for heads that give scores.
    tail: whether what a chat template writes after the end of the last turn,
      such as a line break, is read, as `apply_chat_template` writes it.
  """

  name: str
  settings: Mapping[str, Any]
  params: Params
  names: tuple[str, ...] = ()
  padding: int | None = None
  form: str = ""
  tail: bool = True

  def functions(self, hidden_size: int) -> ScoreHead:
    """The head's functions for a model of width `hidden_size`."""
    return HEADS[self.name](hidden_size, **self.settings)


class _Form(NamedTuple):
  """The linear part of a head, as transformers has a head.

  Attributes:
    matrix: parameters -> [M, D].
    names: (number of outputs, M, and the objectives' names) -> M names.
  """

  matrix: Callable[[Mapping[str, np.ndarray]], np.ndarray]
  names: Callable[[int, tuple[str, ...]], tuple[str, ...]]


def _numbered(stem: str, count: int) -> tuple[str, ...]:
  return tuple(f"{stem}_{i + 1}" for i in range(count))


_FORMS: Mapping[str, _Form] = {
  "scalar": _Form(
    lambda p: p["weight"][None], lambda count, names: names or ("score",)
  ),
  "objectives": _Form(lambda p: p["weight"].T, lambda count, names: names),
  "general": _Form(
    lambda p: p["weight"].T, lambda count, names: _numbered("embedding", count)
  ),
  "pairwise": _Form(
    lambda p: np.concatenate([p["score"][None], p["u"].T, p["v"].T]),
    lambda count, names: (
      "score", *_numbered("u", count // 2), *_numbered("v", count // 2)
    ),
  ),
}  # fmt: skip


def plain_head(names: tuple[str, ...], padding: int | None) -> StoredHead:
  """The head of a checkpoint without jalign_head.json, without parameters.

  Args:
    names: M names of labels.
    padding: see `StoredHead`.
  """
  if len(names) == 1:
    return StoredHead("scalar", {}, {}, names, padding)
  return StoredHead("objectives", {"count": len(names)}, {}, names, padding)


def plain_params(
  matrix: np.ndarray, bias: np.ndarray | None = None
) -> dict[str, jax.Array]:
  """Parameters of `plain_head`, from a matrix [M, D] and a bias [M], or 0."""
  if bias is None:
    bias = np.zeros(len(matrix), np.float32)
  if len(matrix) == 1:
    matrix, bias = matrix[0], bias[0]
  return {"weight": jnp.asarray(matrix.T), "bias": jnp.asarray(bias)}


def as_matrix(head: StoredHead) -> tuple[np.ndarray, tuple[str, ...]]:
  """A head's linear part [M, D] in float32, and a name for each output.

  Raises:
    UserError: the head isn't linear, or lacks the objectives' names or the
      form of preferences.
  """
  if head.name not in _FORMS:
    raise UserError(
      f"a head {head.name!r} has no form that a checkpoint can hold.",
      where="head",
      remedy=f"Heads that have one: {', '.join(_FORMS)}.",
    )
  if bool(head.form) == (head.name in ("scalar", "objectives")):
    raise UserError(
      f"the form of the head {head.name}'s preferences is {head.form!r}.",
      where="head.form",
      remedy='Scores have the form "", and a preference model has one of'
      f" {', '.join(FORMS)}.",
    )
  form = _FORMS[head.name]
  matrix = form.matrix(_on_host(head.params)).astype(np.float32)
  names = form.names(len(matrix), head.names)
  if len(names) != len(matrix) or len({*names}) != len(names):
    raise UserError(
      f"the head has {len(matrix)} scores, and their names are"
      f" {', '.join(names) or 'not given'}.",
      where="head.names",
      remedy="Give each score a name of its own.",
    )
  return np.ascontiguousarray(matrix), names


def lost(head: StoredHead, matrix: np.ndarray, dtype: str) -> list[str]:
  """What the matrix alone doesn't say of a head, as parts of a sentence.

  Args:
    head: the head.
    matrix: from `as_matrix`.
    dtype: the checkpoint's dtype.
  """
  plain = plain_head(as_matrix(head)[1], head.padding)
  if (head.name, dict(head.settings)) != (plain.name, dict(plain.settings)):
    settings = [f"{key} {value}" for key, value in head.settings.items()]
    missing = [f"that it is the head {head.name} ({', '.join(settings)})"]
  else:
    missing = []
  bias = np.atleast_1d(_on_host(head.params).get("bias", 0.0))
  if bias.any():
    said = ", ".join(f"{x:g}" for x in bias)
    missing.append(f"the constant that is added to the score ({said})")
  if not np.array_equal(_rounded(matrix, dtype), matrix):
    missing.append(f"the head's weights beyond the precision of {dtype}")
  if not head.tail:
    missing.append(
      "that scores are read at the end of the last turn, before what the chat"
      " template writes after it"
    )
  return missing


def write_head(head: StoredHead, folder: pathlib.Path) -> None:
  """Writes jalign_head.json and jalign_head.safetensors to a folder."""
  said = {
    "format": _FORMAT,
    "head": head.name,
    "settings": dict(head.settings),
    "names": list(head.names),
    "padding": head.padding,
    "form": head.form,
    "tail": head.tail,
  }
  text = json.dumps(said, indent=2) + "\n"
  (folder / FILE).write_text(text, encoding="utf-8")
  arrays = {
    name: np.asarray(x, np.float32, order="C")
    for name, x in _on_host(head.params).items()
  }
  safetensors.numpy.save_file(arrays, folder / TENSORS)


def read_head(
  folder: pathlib.Path, hidden_size: int, matrix: np.ndarray
) -> StoredHead | None:
  """Reads the head of jalign_head.json; None if there is no such file.

  Args:
    folder: the checkpoint's folder.
    hidden_size: D.
    matrix: [M, D] float32 values of the checkpoint's own matrix.

  Raises:
    UserError: a file is damaged, or belongs to another matrix.
  """
  head, where = describe_head(folder), str(folder / FILE)
  if head is None:
    return None
  try:
    functions = head.functions(hidden_size)
    want = jax.eval_shape(functions.init, jax.random.key(0))
  except (TypeError, UserError) as error:
    raise UserError(
      f"its settings don't fit a head {head.name} ({error}).",
      where=where,
      remedy=_AGAIN,
    ) from None
  try:
    stored = safetensors.numpy.load_file(folder / TENSORS)
  except Exception as error:  # safetensors raises an exception of its own
    raise UserError(
      f"it can't be read ({type(error).__name__}: {error}).",
      where=str(folder / TENSORS),
      remedy=_AGAIN,
    ) from None
  shapes = {
    name: x.shape
    for name, x in traverse_util.flatten_dict(want, sep="/").items()
  }
  good = {name: x.shape for name, x in stored.items()} == shapes and all(
    x.dtype == np.float32 and np.isfinite(x).all() for x in stored.values()
  )
  if not good:
    raise UserError(
      f"its tensors aren't finite float32 numbers of the shapes {shapes}.",
      where=str(folder / TENSORS),
      remedy=_AGAIN,
    )
  params = {name: jnp.asarray(x) for name, x in stored.items()}
  head = head._replace(params=traverse_util.unflatten_dict(params, sep="/"))
  own, _ = as_matrix(head)
  dtypes = ("float32", "bfloat16", "float16")
  if not any(np.array_equal(_rounded(own, x), matrix) for x in dtypes):
    raise UserError(
      "the checkpoint's head isn't the head that this file was written with:"
      " it may have been trained since.",
      where=where,
      remedy=_AGAIN,
    )
  return head


def describe_head(folder: pathlib.Path) -> StoredHead | None:
  """What jalign_head.json says, without parameters; None without the file.

  Raises:
    UserError: the file is damaged.
  """
  path = folder / FILE
  return _described(_object(path), str(path)) if path.is_file() else None


def _object(path):
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(
      f"it can't be read ({type(error).__name__}: {error}).",
      where=str(path),
      remedy=_AGAIN,
    ) from None
  return value if isinstance(value, dict) else {}


def _described(value: Mapping[str, Any], where: str) -> StoredHead:
  """A head without parameters, from the contents of jalign_head.json."""
  version = value.get("format")
  if isinstance(version, int) and version > _FORMAT:
    raise UserError(
      f"it has format {version}, and this version reads format {_FORMAT}.",
      where=where,
      remedy="Install a newer version of jalign.",
    )
  name, settings = value.get("head"), value.get("settings")
  names, padding = value.get("names"), value.get("padding")
  good = (
    value.keys() == {*_KEYS}
    and version == _FORMAT
    and isinstance(name, str)
    and isinstance(settings, dict)
    and isinstance(names, list)
    and all(isinstance(x, str) for x in names)
    and (padding is None or type(padding) is int)
    and value["form"] in ("", *FORMS)
    and isinstance(value["tail"], bool)
  )
  if not good or name not in _FORMS:
    raise UserError(
      f"it doesn't describe a head that is known ({', '.join(_FORMS)}), with"
      f" the keys {', '.join(_KEYS)}.",
      where=where,
      remedy=_AGAIN,
    )
  assert isinstance(name, str) and isinstance(settings, dict)
  return StoredHead(
    name,
    settings,
    {},
    tuple(names or ()),
    padding,
    value["form"],
    value["tail"],
  )


def _rounded(matrix: np.ndarray, dtype: str) -> np.ndarray:
  kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
  with np.errstate(over="ignore"):
    return matrix.astype(kind).astype(np.float32)


def _on_host(params: Params) -> dict[str, np.ndarray]:
  flat = traverse_util.flatten_dict(params, sep="/")
  return {name: np.asarray(fetch(x)) for name, x in flat.items()}
