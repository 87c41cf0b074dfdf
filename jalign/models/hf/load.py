"""From a Hugging Face folder to parameters on devices."""

import collections
import dataclasses
import os
import pathlib
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from jalign.errors import UserError
from jalign.models.config import ModelConfig
from jalign.models.hf.families import config_from
from jalign.models.hf.shards import Shards, listed, open_shards
from jalign.models.hf.tensors import Place, places, tensors
from jalign.models.spec import param_specs
from jalign.sharding import shardings
from jalign.types import Params

_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_HEAD, _EMBED = "lm_head.weight", "model.embed_tokens.weight"
# Computed from the config, and in the files of older versions.
_BUFFERS = (".rotary_emb.inv_freq", ".masked_bias", ".attn.bias")


def read_config(path: str | os.PathLike[str], **fields: Any) -> ModelConfig:
  """The config of a checkpoint's config.json.

  Args:
    path: the folder.
    **fields: of ModelConfig that no checkpoint has: attention, remat, ….

  Raises:
    UserError: it can't be read, or asks for what isn't known.
  """
  import transformers  # slow to import

  folder = pathlib.Path(path)
  where = str(folder / "config.json")
  if not (folder / "config.json").is_file():
    raise UserError(
      "there is no such file.",
      where=where,
      remedy="Give the folder of a Hugging Face checkpoint.",
    )
  try:
    found = transformers.AutoConfig.from_pretrained(
      str(folder), local_files_only=True, trust_remote_code=False
    )
  except Exception as error:  # whatever a foreign file makes it raise
    raise UserError(
      f"it can't be read ({type(error).__name__}: {error}).", where=where
    ) from None
  return dataclasses.replace(config_from(found.to_dict(), where), **fields)


def load(
  path: str | os.PathLike[str],
  *,
  mesh: jax.sharding.Mesh | None = None,
  dtype: str = "",
  param_dtype: str = "",
  **fields: Any,
) -> tuple[ModelConfig, Params]:
  """Loads a checkpoint; each device's part is read by itself.

  Args:
    path: folder with config.json and safetensors files.
    mesh: that parameters are split over by the rules of the config; None for
      one device.
    dtype: of activations; "" for that of the parameters.
    param_dtype: of the parameters; "" for that of the files.
    **fields: more fields of ModelConfig.

  Returns:
    The config and the parameters.

  Raises:
    UserError: a file is missing or damaged; tensors are missing, unexpected or
      misshapen; dtypes are mixed and none is asked for; embeddings that should
      be one differ.
  """
  folder = pathlib.Path(path)
  config = read_config(folder, **fields)
  specs = param_specs(config)
  with open_shards(folder) as shards:
    _check_names(config, tensors(config, specs), shards)
    param_dtype = param_dtype or _dtype(shards)
    config = dataclasses.replace(
      config, dtype=dtype or param_dtype, param_dtype=param_dtype
    )
    if mesh is None:
      one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
      where = jax.tree.map(lambda spec: one, specs)
    else:
      where = shardings(specs, mesh, config.rules)
    flat = {
      name: traverse_util.flatten_dict(tree, sep="/")
      for name, tree in (("specs", specs), ("where", where))
    }
    found = {
      name: _read(
        shards,
        place,
        flat["specs"][name].shape,
        flat["where"][name],
        config.param_dtype,
      )
      for name, place in places(config, specs).items()
    }
  return config, traverse_util.unflatten_dict(found, sep="/")


def _check_names(config, wanted, shards: Shards):
  """Tensors of a file are those of the model, in name and shape."""
  there = {n for n in shards.files if not n.endswith(_BUFFERS)}
  if config.tie_word_embeddings and _HEAD in there and _EMBED in there:
    there.discard(_HEAD)
    if not _equal(shards, _HEAD, _EMBED):
      raise UserError(
        f"{_HEAD} and {_EMBED} differ, and config.json says that they are one"
        " (tie_word_embeddings).",
        where=shards.where(_HEAD),
        remedy="Set tie_word_embeddings to false there, or drop the head.",
      )
  missing, more = wanted.keys() - there, there - wanted.keys()
  wrong = [
    f"{name} is {shards.shape(name)}, not {wanted[name]}"
    for name in sorted(wanted.keys() & there)
    if shards.shape(name) != wanted[name]
  ]
  said = [
    f"{verb}: {listed(names)}"
    for verb, names in (
      ("missing", missing),
      ("unexpected", more),
      ("of another shape", wrong),
    )
    if names
  ]
  if said:
    raise UserError(
      f"its tensors aren't those of {config.model_type} as config.json has it;"
      f" {'; '.join(said)}.",
      where=str(shards.folder),
    )


def _equal(shards, a, b, rows=4096):
  """Whether two tensors are, a part at a time."""
  if shards.shape(a) != shards.shape(b):
    return False
  x, y, total = shards.slice(a), shards.slice(b), shards.shape(a)[0]
  cuts = [slice(i, min(i + rows, total)) for i in range(0, total, rows)]
  return all(np.array_equal(x[cut], y[cut]) for cut in cuts)


def _dtype(shards):
  """The one dtype of all tensors."""
  counts = collections.Counter(
    shards.dtype(name) for name in shards.files if not name.endswith(_BUFFERS)
  )
  if len(counts) > 1 or not counts.keys() <= _DTYPES.keys():
    said = ", ".join(f"{n} of {kind}" for kind, n in counts.most_common())
    raise UserError(
      f"its tensors are {said}.",
      where=str(shards.folder),
      remedy="Say which the parameters shall have (param_dtype): "
      f"{', '.join(_DTYPES.values())}.",
    )
  return _DTYPES[next(iter(counts))]


def _read(
  shards: Shards,
  place: Place,
  shape: tuple[int, ...],
  sharding: jax.sharding.Sharding,
  dtype: str,
) -> jax.Array:
  """A parameter, of which each device's part alone is read."""
  stacked = "{}" in place.name
  known: dict[tuple, np.ndarray] = {}  # replicas are read once

  def part(index):
    ranges = tuple(
      (s.start or 0, n if s.stop is None else s.stop)
      for s, n in zip(index, shape)
    )
    if ranges not in known:
      known[ranges] = whole(ranges)
    return known[ranges]

  def whole(ranges):
    if not stacked:
      return _cut(shards, place.name, place, shape, ranges).astype(dtype)
    sizes = [stop - start for start, stop in ranges]
    out = np.empty(sizes, jax.numpy.dtype(dtype))
    for i, layer in enumerate(range(*ranges[0])):
      name = place.name.format(layer)
      out[i] = _cut(shards, name, place, shape[1:], ranges[1:])
    return out

  return jax.make_array_from_callback(shape, sharding, part)


def _cut(shards, name, place, shape, ranges):
  """Part of a tensor, as the parameter has it."""
  sizes = [stop - start for start, stop in ranges]
  view = shards.slice(name)
  if not place.transposed and len(place.shape) > 1:
    return view[ranges[0][0] : ranges[0][1], ranges[1][0] : ranges[1][1]]
  if not place.transposed:
    start, stop = _flat(ranges, shape)
    return view[start:stop].reshape(sizes)
  inner = 1 if shape[0] == place.shape[1] else 2
  rows = _flat(ranges[inner:], shape[inner:])
  columns = _flat(ranges[:inner], shape[:inner])
  found = view[
    place.start + rows[0] : place.start + rows[1], columns[0] : columns[1]
  ]
  return found.T.reshape(sizes)


def _flat(ranges, shape):
  """A range of several axes as one of their product."""
  assert all(r == (0, n) for r, n in zip(ranges[1:], shape[1:])), ranges
  each = int(np.prod(shape[1:]))
  return ranges[0][0] * each, ranges[0][1] * each
