"""Writes parameters to a folder that transformers opens."""

import dataclasses
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors.numpy
from flax import traverse_util

from jalign.errors import UserError
from jalign.models.config import DTYPES, ModelConfig
from jalign.models.hf.checkpoint_folder import appearing
from jalign.models.hf.description import config_to, family_of
from jalign.models.hf.shards import HEAD, INDEX, SCORE, SINGLE
from jalign.models.hf.tensors import places
from jalign.models.spec import param_specs
from jalign.sharding import fetch
from jalign.types import Params

SHARD_BYTES = 5 * 10**9
# Tokenizer files that are copied from the original checkpoint, unless a
# tokenizer is given.
TOKENIZER_FILES = (
  "added_tokens.json",
  "chat_template.jinja",
  "merges.txt",
  "special_tokens_map.json",
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "vocab.json",
)
# Keys that aren't in a ModelConfig and that users of an export need.
_KEPT = (
  "bos_token_id",
  "eos_token_id",
  "pad_token_id",
  "max_position_embeddings",
)


def save(
  params: Params,
  config: ModelConfig,
  path: str | os.PathLike[str],
  *,
  tokenizer: Any = None,
  like: str | os.PathLike[str] | None = None,
  shard_bytes: int = SHARD_BYTES,
) -> None:
  """Writes a checkpoint that `AutoModelForCausalLM.from_pretrained` opens.

  The folder appears whole: a temporary folder is written beside it and then
  renamed.

  Args:
    params: parameters of the model.
    config: the model's config.
    path: a folder that doesn't exist yet.
    tokenizer: an object with `save(path)` and with the ids of special tokens
      (bos_id, eos_id, pad_id), which are written to config.json.
    like: checkpoint that the model comes from. Its largest length, special
      tokens, generation_config.json and, without `tokenizer`, its tokenizer and
      chat template are copied.
    shard_bytes: largest size of a file, unless a single tensor is larger.

  Raises:
    UserError: the folder exists, no family's config.json can describe the
      model, or the parameters don't fit the config.
  """
  write(
    params,
    config,
    path,
    tokenizer=tokenizer,
    like=like,
    shard_bytes=shard_bytes,
  )


def write(
  params: Params,
  config: ModelConfig,
  path: str | os.PathLike[str],
  *,
  tokenizer: Any,
  like: str | os.PathLike[str] | None,
  shard_bytes: int,
  tensors: Mapping[str, np.ndarray] = MappingProxyType({}),
  description: Mapping[str, Any] = MappingProxyType({}),
  more: Callable[[pathlib.Path], None] = lambda folder: None,
) -> None:
  """Writes a checkpoint as `save` does, perhaps with a head of scores.

  Args:
    params: see `save`.
    config: see `save`.
    path: see `save`.
    tokenizer: see `save`.
    like: see `save`.
    shard_bytes: see `save`.
    tensors: a head's tensors, which stand in place of the output embedding.
    description: keys of config.json in place of those of a language model.
    more: writes further files to the folder.

  Raises:
    UserError: as for `save`.
  """
  name, dtype = checked(params, config)
  config = dataclasses.replace(config, model_type=name, param_dtype=dtype)
  # torch_dtype is the name in transformers 4.
  whole = config_to(config) | {"dtype": dtype, "torch_dtype": dtype}
  if tokenizer is not None:
    for key in ("bos", "eos", "pad"):
      whole[f"{key}_token_id"] = getattr(tokenizer, f"{key}_id")
  whole |= description
  with appearing(pathlib.Path(path)) as partial:
    if like is not None:
      own = TOKENIZER_FILES if tokenizer is None else ()
      _take_over(pathlib.Path(like), partial, whole, own)
    text = json.dumps(whole, indent=2, sort_keys=True) + "\n"
    (partial / "config.json").write_text(text, encoding="utf-8")
    if tokenizer is not None:
      tokenizer.save(partial)
    more(partial)
    _write_tensors(params, config, tensors, partial, shard_bytes)


def checked(params: Params, config: ModelConfig) -> tuple[str, str]:
  """The model's family and the dtype of all parameters, after checks.

  Raises:
    UserError: no family's config.json can describe the model, the parameters
      don't fit the config, or they are of several dtypes.
  """
  family = family_of(config)
  flat = traverse_util.flatten_dict(params, sep="/")
  specs = traverse_util.flatten_dict(param_specs(config), sep="/")
  wrong = sorted(
    path
    for path in flat.keys() | specs.keys()
    if path not in flat
    or path not in specs
    or flat[path].shape != specs[path].shape
  )
  if wrong:
    raise UserError(
      f"parameters and config disagree on {', '.join(wrong)}.", where="params"
    )
  dtypes = sorted({str(x.dtype) for x in flat.values()})
  if len(dtypes) > 1 or dtypes[0] not in DTYPES:
    raise UserError(
      f"parameters are of {', '.join(dtypes)}, but a checkpoint has one dtype,"
      f" one of {', '.join(DTYPES)}.",
      where="params",
      remedy="Cast them: jax.tree.map(lambda x: x.astype(DTYPE), params).",
    )
  return family, dtypes[0]


def _take_over(source, target, description, more):
  """Copies keys of config.json and files of the original checkpoint."""
  original = json.loads((source / "config.json").read_text(encoding="utf-8"))
  for key in _KEPT:
    if key in original:
      description.setdefault(key, original[key])
  for name in ("generation_config.json", *more):
    if (source / name).is_file():
      shutil.copy(source / name, target / name)


def _write_tensors(params, config, more, folder, shard_bytes):
  """Writes one file, or several files and an index, one at a time."""
  names: list[list[str]] = []
  part: dict[str, np.ndarray] = {}
  size = total = 0

  def flush():
    nonlocal part, size
    file = f"model-{len(names) + 1:05d}.safetensors"
    safetensors.numpy.save_file(part, folder / file, {"format": "pt"})
    names.append(sorted(part))
    part, size = {}, 0

  for name, x in itertools.chain(exported(params, config), more.items()):
    if name == HEAD and SCORE in more:
      continue  # a reward model has no output embedding
    if part and size + x.nbytes > shard_bytes:
      flush()
    part[name] = x
    size, total = size + x.nbytes, total + x.nbytes
  flush()
  if len(names) == 1:
    (folder / "model-00001.safetensors").rename(folder / SINGLE)
    return
  weight_map: dict[str, str] = {}
  for i, held in enumerate(names):
    file = f"model-{i + 1:05d}-of-{len(names):05d}.safetensors"
    (folder / f"model-{i + 1:05d}.safetensors").rename(folder / file)
    weight_map |= dict.fromkeys(held, file)
  index = {"metadata": {"total_size": total}, "weight_map": weight_map}
  text = json.dumps(index, indent=2, sort_keys=True) + "\n"
  (folder / INDEX).write_text(text, encoding="utf-8")


def exported(
  params: Params, config: ModelConfig
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields each tensor's name and values, with one layer in memory at a time.

  Raises:
    UserError: the parameters don't fit the config.
  """
  checked(params, config)
  flat = traverse_util.flatten_dict(params, sep="/")
  where = places(config, param_specs(config))
  for path, place in where.items():
    if not place.stack:
      yield place.name, on_host(flat[path])
  for layer in range(config.num_hidden_layers):
    # Parts of one tensor are joined in the order of their starts.
    parts: dict[str, list] = {}
    for path, place in where.items():
      if place.stack:
        x = on_host(flat[path][layer])
        for at in np.ndindex(*place.stack[1:]):
          name = place.name.format(layer, *at)
          parts.setdefault(name, []).append((place, x[at]))
    for name, pieces in parts.items():
      pieces.sort(key=lambda piece: piece[0].start)
      arrays = [_out(x, place) for place, x in pieces]
      axis = pieces[0][0].outputs
      yield (
        name,
        arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis),
      )


def _out(x, place):
  """A parameter laid out as in the file; the inverse of reading."""
  if not place.transposed:
    return np.ascontiguousarray(x.reshape(place.shape))
  return np.ascontiguousarray(x.reshape(place.shape[::-1]).T)


def on_host(x: Any) -> np.ndarray:
  """The values of an array, wherever its parts are."""
  return np.asarray(fetch(x))
