"""Loads a Hugging Face checkpoint's parameters onto devices."""

import collections
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from jalign.errors import UserError
from jalign.hosts import exchange, own_part
from jalign.models.config import ModelConfig
from jalign.models.config_ranges import dtype_name
from jalign.models.hf.description import config_from
from jalign.models.hf.parts import read
from jalign.models.hf.raw import check_numbers
from jalign.models.hf.shards import (
  HEAD,
  SCORE,
  SCORE_BIAS,
  Shards,
  listed,
  not_finite,
  open_shards,
)
from jalign.models.hf.tensors import places, tensors
from jalign.models.spec import param_specs
from jalign.sharding import shardings
from jalign.types import Params

_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_WIDE = {"F64"}  # only read if a narrower dtype is asked for
_EMBEDS = ("model.embed_tokens.weight", "transformer.wte.weight")
_PREFIXES = ("model.", "transformer.")
# Tensors in files of older versions that are computed from the config.
_BUFFERS = (".rotary_emb.inv_freq", ".masked_bias", ".attn.bias")


def read_config(path: str | os.PathLike[str], **fields: Any) -> ModelConfig:
  """Reads a checkpoint's config.json.

  Args:
    path: the checkpoint's folder.
    **fields: fields of ModelConfig that no checkpoint has: attention, remat, ….

  Raises:
    UserError: the file can't be read, or has unknown keys or values.
  """
  folder = pathlib.Path(path)
  where = str(folder / "config.json")
  config = config_from(described(folder).to_dict(), where)
  return dataclasses.replace(config, **fields)


def described(folder: pathlib.Path) -> Any:
  """A checkpoint's config.json, as `transformers.AutoConfig` completes it.

  Raises:
    UserError: the file can't be read.
  """
  import transformers  # slow to import

  where = str(folder / "config.json")
  if not (folder / "config.json").is_file():
    raise UserError(
      "there is no such file.",
      where=where,
      remedy="Give the folder of a Hugging Face checkpoint.",
    )
  try:
    check_numbers(
      json.loads((folder / "config.json").read_text("utf-8")), where
    )
    return transformers.AutoConfig.from_pretrained(
      str(folder), local_files_only=True, trust_remote_code=False
    )
  except UserError:
    raise
  except Exception as error:  # transformers may raise anything for a bad file
    raise UserError(
      f"it can't be read ({type(error).__name__}: {error}).", where=where
    ) from None


def load(
  path: str | os.PathLike[str],
  *,
  mesh: jax.sharding.Mesh | None = None,
  dtype: Any = "",
  param_dtype: Any = "",
  **fields: Any,
) -> tuple[ModelConfig, Params]:
  """Loads a checkpoint; for each device only its own part is read.

  Args:
    path: folder with config.json and safetensors files.
    mesh: mesh over which parameters are split by the config's rules; None for
      one device.
    dtype: dtype of activations, as `jnp.dtype` takes it; "" for the dtype of
      the parameters.
    param_dtype: dtype of the parameters, as `jnp.dtype` takes it; "" for the
      dtype of the files.
    **fields: more fields of ModelConfig.

  Returns:
    The config and the parameters.

  Raises:
    UserError: a file is missing or damaged; tensors are missing, unexpected or
      of another shape; their numbers aren't finite, or have a dtype that
      weights can't have; the files have several dtypes and no param_dtype is
      given; or tied embeddings differ.
  """
  return load_parts(path, mesh, dtype, param_dtype, fields)[:2]


def load_parts(
  path: str | os.PathLike[str],
  mesh: jax.sharding.Mesh | None,
  dtype: Any,
  param_dtype: Any,
  fields: Mapping[str, Any],
  labels: int = 0,
) -> tuple[ModelConfig, Params, dict[str, np.ndarray]]:
  """Loads a checkpoint as `load` does, perhaps with a score's head.

  Args:
    path: see `load`.
    mesh: see `load`.
    dtype: see `load`.
    param_dtype: see `load`.
    fields: see `load`.
    labels: number of the head's outputs, M; 0 for a checkpoint with an output
      embedding and no such head.

  Returns:
    The config, the parameters, and the head's tensors by name, in float32: the
    weight [M, D] and, where the files have one, the bias [M].

  Raises:
    UserError: as for `load`.
  """
  folder = pathlib.Path(path)
  dtype, param_dtype = dtype_name(dtype), dtype_name(param_dtype)
  config = read_config(folder, **fields)
  if labels:
    config = dataclasses.replace(config, tie_word_embeddings=True)
  specs = param_specs(config)
  wanted = tensors(config, specs)
  more: dict[str, tuple[int, ...]] = {}
  with open_shards(folder) as shards:
    shards = _completed(shards, wanted)
    if labels:
      more[SCORE] = labels, config.hidden_size
      if SCORE_BIAS in shards.files:
        more[SCORE_BIAS] = (labels,)
    param_dtype = _dtype(shards, param_dtype)
    _check_names(config, wanted | more, shards)
    config = dataclasses.replace(
      config, dtype=dtype or param_dtype, param_dtype=param_dtype
    )
    if mesh is None:
      device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
      where = jax.tree.map(lambda spec: device, specs)
    else:
      where = shardings(specs, mesh, config.rules)
    flat = {
      name: traverse_util.flatten_dict(tree, sep="/")
      for name, tree in (("specs", specs), ("where", where))
    }
    bad: collections.Counter[str] = collections.Counter()
    head = {name: shards.slice(name)[...] for name in more}
    for name, values in head.items():
      bad[name] += not_finite(values)
  arrays = {}
  for name, place in places(config, specs).items():
    # The files are opened anew for each parameter, because pages that were read
    # count as this process's memory while a file is open.
    with open_shards(folder) as shards:
      arrays[name] = read(
        _completed(shards, wanted),
        place,
        flat["specs"][name].shape,
        flat["where"][name],
        config.param_dtype,
        bad,
      )
  if bad := +bad:  # the counts above zero
    said = listed(f"{name} ({count:,})" for name, count in bad.items())
    kind = (
      "too large for float16, infinite"
      if param_dtype == "float16"
      else "infinite"
    )
    raise UserError(
      f"{sum(bad.values()):,} of its numbers are {kind} or NaN: {said}.",
      where=str(folder),
      remedy="Take an earlier checkpoint, or download it again.",
    )
  whole = {name: values.astype(np.float32) for name, values in head.items()}
  return config, traverse_util.unflatten_dict(arrays, sep="/"), whole


def _completed(shards: Shards, wanted) -> Shards:
  """Adds the prefix of names that files of a model without a head lack."""
  for prefix in _PREFIXES:
    full = [name for name in wanted if name.startswith(prefix)]
    bare = [name.removeprefix(prefix) for name in full]
    has = shards.files.keys()
    if has & set(bare) and not has & set(full):
      return shards.prefixed(prefix, but=(HEAD, SCORE, SCORE_BIAS))
  return shards


def _check_names(config, wanted, shards: Shards):
  """Raises UserError unless the files have the model's names and shapes."""
  there = {n for n in shards.files if not n.endswith(_BUFFERS)}
  embed = next((name for name in _EMBEDS if name in there), "")
  if config.tie_word_embeddings and HEAD in there and embed:
    there.discard(HEAD)
    if not _equal(shards, HEAD, embed):
      raise UserError(
        f"{HEAD} and {embed} differ, but config.json says that they are the"
        " same (tie_word_embeddings).",
        where=shards.where(HEAD),
        remedy="Set tie_word_embeddings to false in config.json, or remove"
        f" {HEAD}.",
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
    scored = SCORE in more
    raise UserError(
      f"its tensors aren't those of the {config.model_type} that config.json"
      f" describes; {'; '.join(said)}.",
      where=str(shards.folder),
      remedy="It is a reward model: load_reward_model loads it."
      if scored
      else "",
    )


def _equal(shards, a, b, rows=4096):
  """Whether two tensors are equal; they are read a part at a time.

  Each process reads its share of the rows.
  """
  if shards.shape(a) != shards.shape(b):
    return False
  x, y, total = shards.slice(a), shards.slice(b), shards.shape(a)[0]
  cuts = [slice(i, min(i + rows, total)) for i in range(0, total, rows)]
  own = cuts[own_part(cuts)]
  return all(exchange(all(np.array_equal(x[cut], y[cut]) for cut in own)))


def _dtype(shards, asked: str) -> str:
  """The dtype of the parameters: the dtype asked for, or else the tensors'.

  A score's head may have a dtype of its own.
  """
  names = [name for name in shards.files if not name.endswith(_BUFFERS)]
  counts = collections.Counter(
    shards.dtype(name) for name in names if name not in (SCORE, SCORE_BIAS)
  )
  said = ", ".join(f"{n} of {kind}" for kind, n in counts.most_common())
  choices = ", ".join(_DTYPES.values())
  kinds = {shards.dtype(name) for name in names}
  if not kinds <= _DTYPES.keys() | _WIDE:
    raise UserError(
      f"its tensors are {said}, but only weights of {choices} can be read.",
      where=str(shards.folder),
      remedy="Dequantise a quantised checkpoint first, for instance by"
      " `dequantize()` of transformers.",
    )
  if asked:
    return asked
  if len(counts) > 1 or counts.keys() & _WIDE:
    raise UserError(
      f"its tensors are {said}.",
      where=str(shards.folder),
      remedy=f"Choose the parameters' dtype (param_dtype): {choices}.",
    )
  return _DTYPES[next(iter(counts))]
