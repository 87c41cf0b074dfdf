"""LoRA adapters in the format of PEFT, both ways."""

import collections
import json
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from jalign.errors import UserError
from jalign.models.config import ModelConfig
from jalign.models.hf.folder import appearing
from jalign.models.hf.save import on_host
from jalign.models.hf.shards import listed
from jalign.models.hf.tensors import Place, places, tensors
from jalign.models.lora import LoraConfig, delta_specs
from jalign.models.spec import param_specs
from jalign.types import Params

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX, _SUFFIX = "base_model.model.", ".weight"
_PARTS = re.compile(
  r"(.+)\.(lora_A|lora_B|lora_magnitude_vector)(?:\.default)?(?:\.weight)?"
)
# Settings that change what an adapter computes, and aren't known here.
_UNKNOWN = (
  "alora_invocation_tokens",
  "arrow_config",
  "layer_replication",
  "lora_bias",
  "modules_to_save",
  "target_parameters",
  "trainable_token_indices",
  "use_bdlora",
  "use_qalora",
  "velora_config",
)


def save_adapter(
  delta: Params,
  config: ModelConfig,
  lora: LoraConfig,
  path: str | os.PathLike[str],
  *,
  base: str = "",
) -> None:
  """Writes an adapter that `peft.PeftModel.from_pretrained` opens.

  Changes of several weights that are one tensor in the family's files are one
  change of the sum of their ranks there.

  Args:
    delta: as from `jalign.models.lora.init_delta`.
    config: the model's.
    lora: the delta's.
    path: a folder that isn't there yet.
    base: name or folder of the checkpoint that it belongs to.

  Raises:
    UserError: the folder is there; or DoRA on a part of a tensor.
  """
  specs = param_specs(config)
  found: dict[str, np.ndarray] = {}
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
    module = name.removesuffix(_SUFFIX)
    outputs = shapes[name][mine[0][0].outputs]
    for part, x in _written(mine, lora, outputs, module):
      found[f"{_PREFIX}{module}.{part}"] = x
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
    (folder / _CONFIG).write_text(text, encoding="utf-8")
    safetensors.numpy.save_file(found, folder / _WEIGHTS, {"format": "pt"})


def _modules(config, specs) -> dict[str, list[tuple[str, int, Place]]]:
  """Name of a tensor -> (name in `blocks`, layer, place) of what lies in it."""
  found: dict[str, list[tuple[str, int, Place]]] = collections.defaultdict(list)
  for path, place in places(config, specs).items():
    if len(place.stack) == 1 and place.inner:
      for (layer,), name in place.names():
        key = path.removeprefix("blocks/")
        found[name].append((key, layer, place))
  for parts in found.values():
    parts.sort(key=lambda part: part[2].start)
  return found


def _written(mine, lora, outputs, module) -> Iterator[tuple[str, np.ndarray]]:
  """The tensors of one module's change."""
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
        f"DoRA changes a part of {module}, and an adapter changes all of it.",
        where="lora.targets",
        remedy="Merge it into the checkpoint instead.",
      )
    yield "lora_magnitude_vector", lengths


def load_adapter(
  path: str | os.PathLike[str], config: ModelConfig
) -> tuple[LoraConfig, Params]:
  """Reads an adapter of PEFT.

  Where its modules have several ranks, the smaller ones are filled up with
  zeros; layers that it doesn't change get zeros, too.

  Args:
    path: folder with adapter_config.json and adapter_model.safetensors.
    config: of the model that it belongs to.

  Returns:
    Settings and delta for `jalign.models.lora.join`.

  Raises:
    UserError: it can't be read, isn't LoRA, asks for what isn't known, or its
      tensors are not those of the model.
  """
  folder = pathlib.Path(path)
  given = _described(folder)
  file = folder / _WEIGHTS
  try:
    stored = safetensors.numpy.load_file(file)
  except Exception as error:  # safetensors has an exception of its own
    raise UserError(
      f"it can't be read ({type(error).__name__}: {error}).", where=str(file)
    ) from None
  modules = _modules(config, param_specs(config))
  changes: dict[str, dict[str, np.ndarray]] = collections.defaultdict(dict)
  strange = []
  for name, x in stored.items():
    match = _PARTS.fullmatch(name.removeprefix(_PREFIX))
    if match and match[1] + _SUFFIX in modules:
      changes[match[1] + _SUFFIX][match[2]] = x.astype(np.float32)
    else:
      strange.append(name)
  needed = {"lora_A", "lora_B"}
  if given.get("use_dora"):
    needed.add("lora_magnitude_vector")
  lacking = [n for n, x in changes.items() if x.keys() != needed]
  if strange or lacking or not changes:
    said = strange or lacking or ["no module at all"]
    raise UserError(
      f"these aren't changes of this model's weights: {listed(said)}.",
      where=str(file),
    )
  keys = {key for name in changes for key, _, _ in modules[name]}
  lora = LoraConfig(
    rank=max(x["lora_A"].shape[0] for x in changes.values()),
    alpha=float(given["lora_alpha"]),
    targets=tuple(f"blocks/{key}" for key in sorted(keys)),
    use_rslora=bool(given.get("use_rslora")),
    use_dora=bool(given.get("use_dora")),
  )
  specs = delta_specs(config, lora)["blocks"]
  whole = [n for n, parts in modules.items() if keys & {k for k, _, _ in parts}]
  if lora.use_dora and len(changes) < len(whole):
    raise UserError(
      "it is DoRA on some layers alone: the other columns' lengths aren't"
      " known.",
      where=str(file),
      remedy="Merge it with PEFT first.",
    )
  delta = {
    key: {part: np.zeros(s.shape, np.float32) for part, s in found.items()}
    for key, found in specs.items()
  }
  for name, change in changes.items():
    a, b = change["lora_A"], change["lora_B"]
    scale = _scale_of(name, a.shape[0], given)
    for key, layer, place in modules[name]:
      out = delta[key]
      shape = out["b"].shape[2:]
      own = slice(place.start, place.start + math.prod(shape))
      inputs = math.prod(out["a"].shape[1:-1])
      if a.shape[1] != inputs or b.shape[0] < own.stop or len(a) != b.shape[1]:
        raise UserError(
          f"the change of {name} has shapes {a.shape} and {b.shape}.",
          where=str(file),
          remedy="Take the checkpoint that the adapter was trained on.",
        )
      rank = len(a)
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
  return lora, {"blocks": as_arrays}


def _described(folder) -> Mapping[str, Any]:
  """adapter_config.json, checked."""
  where = str(folder / _CONFIG)
  try:
    given = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    kind, bias = given["peft_type"], given.get("bias", "none")
    float(given["lora_alpha"])
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f"it can't be read ({type(error).__name__}: {error}).",
      where=where,
      remedy="Give the folder of an adapter that PEFT saved.",
    ) from None
  asked = [key for key in _UNKNOWN if given.get(key)]
  if kind != "LORA" or bias != "none" or asked:
    what = asked or [kind if kind != "LORA" else f"bias={bias!r}"]
    raise UserError(
      f"it asks for {', '.join(map(str, what))}, which jalign doesn't know.",
      where=where,
    )
  return given


def _scale_of(name, rank, given) -> float:
  """The factor of one module's change."""
  module, alpha = name.removesuffix(_SUFFIX), given["lora_alpha"]
  for pattern, value in (given.get("alpha_pattern") or {}).items():
    if re.fullmatch(rf"(.*\.)?({pattern})", module):
      alpha = value
  return alpha / (math.sqrt(rank) if given.get("use_rslora") else rank)
