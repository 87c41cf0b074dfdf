"""Loads a Hugging Face checkpoint's parameters onto devices."""

import collections
import dataclasses
import json
import os
import pathlib
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
    check_numbers(
      json.loads((folder / "config.json").read_text("utf-8")), where
    )
    description = transformers.AutoConfig.from_pretrained(
      str(folder), local_files_only=True, trust_remote_code=False
    )
    config = config_from(description.to_dict(), where)
  except UserError:
    raise
  except Exception as error:  # transformers may raise anything for a bad file
    raise UserError(
      f"it can't be read ({type(error).__name__}: {error}).", where=where
    ) from None
  return dataclasses.replace(config, **fields)


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
  config, params, score = _load(path, mesh, dtype, param_dtype, fields)
  assert score is None
  return config, params


def load_reward_model(
  path: str | os.PathLike[str],
  *,
  mesh: jax.sharding.Mesh | None = None,
  dtype: Any = "",
  param_dtype: Any = "",
  **fields: Any,
) -> tuple[ModelConfig, Params, Params]:
  """Loads what `AutoModelForSequenceClassification` has saved with one label.

  Args:
    path: see `load`.
    mesh: see `load`.
    dtype: see `load`.
    param_dtype: see `load`.
    **fields: see `load`.

  Returns:
    The config, the parameters of the model (without an output embedding) and
    the parameters of the head `jalign.models.scalar`, which scores the last
    token as transformers does.

  Raises:
    UserError: as for `load`; or the checkpoint has several labels.
  """
  config, params, score = _load(
    path, mesh, dtype, param_dtype, fields, scored=True
  )
  assert score is not None
  return config, params, {"weight": score, "bias": jax.numpy.zeros(())}


def _load(path, mesh, dtype, param_dtype, fields, scored=False):
  folder = pathlib.Path(path)
  dtype, param_dtype = dtype_name(dtype), dtype_name(param_dtype)
  config = read_config(folder, **fields)
  if scored:
    config = dataclasses.replace(config, tie_word_embeddings=True)
  specs = param_specs(config)
  wanted = tensors(config, specs)
  with open_shards(folder) as shards:
    shards = _completed(shards, wanted)
    if scored:
      wanted = wanted | {SCORE: (1, config.hidden_size)}
    param_dtype = _dtype(shards, param_dtype)
    _check_names(config, wanted, shards)
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
    score = None
    bad: collections.Counter[str] = collections.Counter()
    if scored:
      values = shards.slice(SCORE)[0]
      bad[SCORE] += not_finite(values)
      score = jax.numpy.asarray(values, jax.numpy.float32)
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
  return config, traverse_util.unflatten_dict(arrays, sep="/"), score


def _completed(shards: Shards, wanted) -> Shards:
  """Adds the prefix of names that files of a model without a head lack."""
  for prefix in _PREFIXES:
    full = [name for name in wanted if name.startswith(prefix)]
    bare = [name.removeprefix(prefix) for name in full]
    has = shards.files.keys()
    if has & set(bare) and not has & set(full):
      return shards.prefixed(prefix, but=(HEAD, SCORE))
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
  """The dtype of the parameters: the dtype asked for, or else the tensors'."""
  counts = collections.Counter(
    shards.dtype(name) for name in shards.files if not name.endswith(_BUFFERS)
  )
  said = ", ".join(f"{n} of {kind}" for kind, n in counts.most_common())
  choices = ", ".join(_DTYPES.values())
  if not counts.keys() <= _DTYPES.keys() | _WIDE:
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
