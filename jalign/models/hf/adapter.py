"""Reads and writes LoRA adapters in the format of PEFT."""

import collections
import json
import math
import os
import pathlib
import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from jalign.errors import UserError
from jalign.models.config import ModelConfig
from jalign.models.hf.adapter_config import CONFIG, read_adapter_config
from jalign.models.hf.adapter_tensors import (
  PREFIX,
  SUFFIX,
  changes_of,
  check_shapes,
  read_tensors,
  take_head,
)
from jalign.models.hf.checkpoint_folder import appearing
from jalign.models.hf.save import on_host
from jalign.models.hf.tensors import Place, places, tensors
from jalign.models.lora import LoraConfig, delta_specs
from jalign.models.spec import ParamSpec, param_specs
from jalign.types import Params

_WEIGHTS = "adapter_model.safetensors"


def save_adapter(
  delta: Params,
  config: ModelConfig,
  lora: LoraConfig,
  path: str | os.PathLike[str],
  *,
  base: str = "",
) -> None:
  """Writes an adapter that `peft.PeftModel.from_pretrained` opens.

  Where a family's files hold several of our weights in one tensor, their
  changes become one change, whose rank is the sum of their ranks.

  Args:
    delta: parameters as from `jalign.models.lora.init_delta`, trained.
    config: the model's config.
    lora: the settings of the delta.
    path: a folder that doesn't exist yet.
    base: name or folder of the checkpoint that the adapter belongs to.

  Raises:
    UserError: the folder exists; the delta doesn't fit the settings; or DoRA
      changes only a part of a tensor.
  """
  specs = param_specs(config)
  _check_delta(delta, config, lora)
  arrays: dict[str, np.ndarray] = {}
  ranks: dict[str, int] = {}
  names: set[str] = set()
  shapes = tensors(config, specs)
  for name, parts in _modules(config, specs).items():
    mine = [
      (place, index, delta["blocks"][key])
      for key, index, place in parts
      if key in delta["blocks"]
    ]
    if not mine:
      continue
    module = name.removesuffix(SUFFIX)
    outputs = shapes[name][mine[0][0].outputs]
    for part, x in _written(mine, lora, outputs, module):
      arrays[f"{PREFIX}{module}.{part}"] = x
    inner = re.sub(r"^.*?\.\d+\.", "", module)
    names.add(inner)
    if len(mine) > 1:
      ranks[inner] = len(mine) * lora.rank
  grow = lambda n: (
    math.sqrt(n / lora.rank) if lora.use_rslora else n / lora.rank
  )
  description = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": base,
    "r": lora.rank,
    "lora_alpha": lora.alpha,
    "lora_dropout": 0.0,
    "bias": "none",
    "target_modules": sorted(names),
    "rank_pattern": ranks,
    "alpha_pattern": {n: lora.alpha * grow(r) for n, r in ranks.items()},
    "use_rslora": lora.use_rslora,
    "use_dora": lora.use_dora,
    "fan_in_fan_out": not places(config, specs)["blocks/wo"].transposed,
    "inference_mode": True,
  }
  with appearing(pathlib.Path(path)) as folder:
    text = json.dumps(description, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")
    safetensors.numpy.save_file(arrays, folder / _WEIGHTS, {"format": "pt"})


def _check_delta(delta, config, lora):
  """Raises UserError unless a delta has the settings' names and shapes."""
  shapes = lambda tree, of: jax.tree.map(lambda x: x.shape, tree, is_leaf=of)
  spec = lambda x: isinstance(x, ParamSpec)
  got = shapes(delta["blocks"], None)
  want = shapes(delta_specs(config, lora)["blocks"], spec)
  wrong = sorted(
    k for k in got.keys() | want.keys() if got.get(k) != want.get(k)
  )
  if wrong:
    raise UserError(
      f"the delta isn't that of these settings at {', '.join(wrong)}.",
      where="lora",
      remedy="Give the LoraConfig and the ModelConfig that the delta was made"
      " with.",
    )


def _modules(config, specs) -> dict[str, list[tuple[str, int, Place]]]:
  """Tensor -> the parameters in it, as (name in `blocks`, layer, place)."""
  modules: dict[str, list[tuple[str, int, Place]]] = collections.defaultdict(
    list
  )
  for path, place in places(config, specs).items():
    if len(place.stack) == 1 and place.inner:
      for (layer,), name in place.names():
        key = path.removeprefix("blocks/")
        modules[name].append((key, layer, place))
  for parts in modules.values():
    parts.sort(key=lambda part: part[2].start)
  return modules


def _written(mine, lora, outputs, module) -> Iterator[tuple[str, np.ndarray]]:
  """Names (by PEFT) and values of the tensors of one module's change."""
  width = lora.rank
  rows, out = [], np.zeros((outputs, width * len(mine)), np.float32)
  lengths = np.zeros(outputs, np.float32)
  for i, (place, layer, change) in enumerate(mine):
    a = on_host(change["a"][layer]).reshape(-1, width)
    b = on_host(change["b"][layer]).reshape(width, -1)
    own = slice(place.start, place.start + b.shape[1])
    rows.append(a.T)
    out[own, i * width : (i + 1) * width] = b.T
    if lora.use_dora:
      lengths[own] = on_host(change["magnitude"][layer]).reshape(-1)
  yield "lora_A.weight", np.ascontiguousarray(np.concatenate(rows))
  yield "lora_B.weight", out
  if lora.use_dora:
    if not lengths.all():
      raise UserError(
        f"DoRA changes only a part of {module}, but in an adapter it has to"
        " change the whole module.",
        where="lora.targets",
        remedy="Merge the delta into the checkpoint instead.",
      )
    yield "lora_magnitude_vector", lengths


def load_adapter(
  path: str | os.PathLike[str], config: ModelConfig
) -> tuple[LoraConfig, Params]:
  """Reads an adapter that PEFT has saved.

  Where modules differ in rank, changes of smaller rank are filled up with
  zeros; layers that the adapter doesn't change get zeros, too.

  Args:
    path: folder with adapter_config.json and adapter_model.safetensors.
    config: config of the model that the adapter belongs to.

  Returns:
    Settings and delta for `jalign.models.lora.join`.

  Raises:
    UserError: the adapter can't be read, isn't LoRA, has unknown settings, or
      its tensors don't fit the model.
  """
  lora, delta, head = read_adapter(pathlib.Path(path), config)
  if head is not None:
    raise UserError(
      "it is the adapter of a reward model.",
      where=str(path),
      remedy="load_reward_adapter loads it.",
    )
  return lora, delta


def read_adapter(
  folder: pathlib.Path, config: ModelConfig
) -> tuple[LoraConfig, Params, np.ndarray | None]:
  """Reads an adapter as `load_adapter` does, perhaps with a score's head.

  Args:
    folder: see `load_adapter`.
    config: see `load_adapter`.

  Returns:
    Settings, delta, and the head's matrix [M, D] in float32; None for the
    adapter of a language model.

  Raises:
    UserError: as for `load_adapter`; or a reward model's adapter has no head.
  """
  given = read_adapter_config(folder)
  where, file = str(folder / CONFIG), str(folder / _WEIGHTS)
  specs = param_specs(config)
  modules = _modules(config, specs)
  stored = read_tensors(file)
  head = take_head(stored, config.hidden_size, file) if given.scores else None
  changes = changes_of(stored, file, modules, given)
  keys = {key for name in changes for key, _, _ in modules[name]}
  lora = LoraConfig(
    rank=max(len(x["lora_A"]) for x in changes.values()),
    alpha=given.alpha,
    targets=tuple(f"blocks/{key}" for key in sorted(keys)),
    use_rslora=given.use_rslora,
    use_dora=given.use_dora,
  )
  wanted = delta_specs(config, lora)["blocks"]
  whole = [n for n, parts in modules.items() if keys & {k for k, _, _ in parts}]
  if lora.use_dora and len(changes) < len(whole):
    raise UserError(
      "it is DoRA on only some layers: the columns' lengths in the other layers"
      " aren't known.",
      where=file,
      remedy="Merge the adapter with PEFT first.",
    )
  delta = {
    key: {part: np.zeros(s.shape, np.float32) for part, s in parts.items()}
    for key, parts in wanted.items()
  }
  settings = given.ranks_and_scales(
    (n.removesuffix(SUFFIX) for n in changes), where
  )
  shapes = tensors(config, specs)
  for (name, change), (rank, scale) in zip(changes.items(), settings.values()):
    outputs = shapes[name][modules[name][0][2].outputs]
    check_shapes(name, change, rank, shapes[name], outputs, where, file)
    a, b = change["lora_A"], change["lora_B"]
    for key, layer, place in modules[name]:
      out = delta[key]
      shape = out["b"].shape[2:]
      own = slice(place.start, place.start + math.prod(shape))
      out["a"][layer][..., :rank] = a.T.reshape(*out["a"].shape[1:-1], rank)
      out["b"][layer][:rank] = (b[own].T * (scale / lora.scale)).reshape(
        rank, *shape
      )
      if lora.use_dora:
        lengths = change["lora_magnitude_vector"].reshape(-1)[own]
        out["magnitude"][layer] = lengths.reshape(shape)
  as_arrays = {
    k: {n: jnp.asarray(x) for n, x in v.items()} for k, v in delta.items()
  }
  return lora, {"blocks": as_arrays}, head
