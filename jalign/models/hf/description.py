"""Translates a config.json to a ModelConfig and back.

A key is either read, or has to have the value that the block computes with, or
has no effect on a forward pass. Any other key is an error: nothing is ignored.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jalign.errors import UserError
from jalign.models.config import FULL, SLIDING, ModelConfig
from jalign.models.config_ranges import SWITCHES
from jalign.models.hf.families import FAMILIES

# Fields of ModelConfig that say how a model is computed, not what it computes.
HOW = (
  "dtype",
  "param_dtype",
  "cache_dtype",
  "attention",
  "remat",
  "scan_unroll",
)
# Keys that are read for every family and are fields of the same name.
_SHARED = (
  "vocab_size",
  "hidden_size",
  "intermediate_size",
  "num_hidden_layers",
  "num_attention_heads",
  "num_key_value_heads",
  "rms_norm_eps",
  "tie_word_embeddings",
  "initializer_range",
)
# Keys without an effect on a forward pass, or read elsewhere in this file.
_SILENT = frozenset(
  (
    "_name_or_path",
    "_sliding_window_pattern",
    "architectures",
    "auto_map",  # code that comes with a checkpoint is never run
    "bos_token_id",
    "cache_implementation",
    "dtype",
    "eos_token_id",
    "head_dim",
    "id2label",
    "label2id",
    "layer_types",
    "max_position_embeddings",
    "max_window_layers",
    "model_type",
    "no_rope_layer_interval",
    "original_max_position_embeddings",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "rope_parameters",
    "sliding_window",
    "sliding_window_pattern",  # AutoConfig turns it into layer_types
    "torch_dtype",
    "transformers_version",
    "unk_token_id",
    "use_cache",
    "use_sliding_window",
  )
)
# Key -> the values with which all blocks compute; they mean the same.
_FIXED: dict[str, tuple[Any, ...]] = {
  "attention_dropout": (0,),
  "chunk_size_feed_forward": (0,),
  "decoder_sparse_step": (1,),
  "embd_pdrop": (0,),
  "is_encoder_decoder": (False,),
  "mlp_only_layers": (None, []),
  "pretraining_tp": (1,),
  "resid_pdrop": (0,),
  "router_jitter_noise": (0,),
  "scale_attn_weights": (True,),
  "use_bidirectional_attention": (None, False),
}
# Keys for which 0 would mean something else than in ModelConfig.
_NOT_ZERO = (
  "attn_logit_softcapping",
  "final_logit_softcapping",
  "head_dim",
  "query_pre_attn_scalar",
  "sliding_window",
)
_ROPE = ("rope_type", "type", "rope_theta", "partial_rotary_factor")


def family_of(c: ModelConfig) -> str:
  """The first family whose config.json can describe a model.

  Raises:
    UserError: no family's config.json can describe it.
  """
  if c.model_type:
    names = [c.model_type] if c.model_type in FAMILIES else []
  else:
    names = [name for name, family in FAMILIES.items() if family.fits(c)]
  for name in names:
    if _says(name, c):
      return name
  raise UserError(
    f"no config.json of {c.model_type or 'any family'} describes this model.",
    where="model",
    remedy=f"Families: {', '.join(FAMILIES)}.",
  )


def _says(name, c):
  try:
    again = config_from(_described(dataclasses.replace(c, model_type=name)))
  except UserError:
    return False
  given = [*HOW, "rules", "model_type"]
  like = {f: getattr(c, f) for f in given}
  return dataclasses.replace(again, **like) == _plain(c)


def _plain(c):
  """Resets fields that make no difference: windows of no layer, for example."""
  changes: dict[str, Any] = {}
  if not any(c.windows):
    changes |= {"sliding_window": 0, "layer_types": ()}
  elif all(c.windows):
    changes |= {"layer_types": ()}
  if all(c.no_rope_layers):
    changes["no_rope_layers"] = ()
  if c.query_pre_attn_scalar == c.head_dim:
    changes["query_pre_attn_scalar"] = 0.0
  return dataclasses.replace(c, **changes)


def config_from(config: Mapping[str, Any], where: str = "") -> ModelConfig:
  """The config of the model that a config.json describes.

  Args:
    config: the file as `transformers.AutoConfig` completes it (`to_dict`).
    where: the file, for error messages.

  Raises:
    UserError: the family or a key is unknown, or this model can't compute with
      a value.
  """
  name = config.get("model_type")
  if name not in FAMILIES:
    raise UserError(
      f"models of type {name!r} aren't known.",
      where=where,
      remedy=f"Families: {', '.join(FAMILIES)}.",
    )
  family = FAMILIES[name]
  config = _translated(config, family)
  unknown = (
    config.keys() - _SILENT - _FIXED.keys() - set(_SHARED)
    - set(family.read) - set(family.silent) - {"hidden_act"}
  )  # fmt: skip
  off = (None, False)
  unknown = {k for k in unknown if not any(config[k] is value for value in off)}
  if unknown:
    raise UserError(
      f"it asks for {', '.join(sorted(unknown))}, which jalign doesn't know.",
      where=where,
    )
  for key, values in _FIXED.items():
    if key in family.silent:
      continue
    if key in config and config[key] not in values:
      raise UserError(
        f"{key} is {config[key]!r}, but jalign only computes with"
        f" {values[-1]!r}.",
        where=where,
      )
  for key in _NOT_ZERO:
    if config.get(key) == 0 and config[key] is not False:
      raise UserError(
        f"{key} is 0.", where=where, remedy="Write null to turn it off."
      )
  fields = {key: config[key] for key in _SHARED if key in config}
  for key in family.read:
    none = False if key in SWITCHES else 0
    fields[key] = none if config[key] is None else config[key]
  # Where a config.json has attention_bias, it is for all four projections.
  fields["attention_out_bias"] = fields.get("attention_bias", False)
  fields |= family.implied(config)
  if "learned_positions" not in family.read:
    fields |= _rope(config, where)
  fields |= _windows(config, where)
  fields["hidden_act"] = config["hidden_act"]
  fields["head_dim"] = config.get("head_dim") or 0
  try:
    return _plain(ModelConfig(model_type=name, **fields))
  except UserError as e:
    field = e.where.removeprefix("model.")
    field = family.renamed.get(field, field)
    place = f"{where}: {field}" if where else field
    raise UserError(e.problem, where=place, remedy=e.remedy) from None


def _translated(config, family):
  """Translates keys to our names; keys with our name for others are dropped."""
  ours = {theirs: ours for ours, theirs in family.renamed.items()}
  if "num_experts" in family.read:  # transformers has two names for the field
    ours |= {"num_local_experts": "num_experts"}
  others = {k: v for k, v in config.items() if k not in ours}
  return others | {
    new: config[old] for old, new in ours.items() if old in config
  }


def _windows(config, where):
  types = tuple(config.get("layer_types") or ())
  strange = sorted({str(x) for x in types} - {FULL, SLIDING})
  if strange:
    raise UserError(
      f"layer_types has {', '.join(strange)}, but jalign only knows {FULL} and"
      f" {SLIDING}.",
      where=where,
    )
  if types and SLIDING not in types:
    return {}
  window = config.get("sliding_window")
  return {
    "sliding_window": 0 if window is None else window,
    "layer_types": types,
  }


def _rope(config, where):
  rotations = config["rope_parameters"]
  if not {FULL, SLIDING} & rotations.keys():
    return _one_rope(rotations, config, where)
  local = _one_rope(rotations[SLIDING], config, where)
  fields = _one_rope(rotations[FULL], config, where)
  if local.get("rope_scaling"):
    raise UserError("positions are scaled in windowed layers.", where=where)
  if not local["rope_theta"]:  # 0 in ModelConfig means the other layers' base
    raise UserError("rope_theta of layers with a window is 0.", where=where)
  return fields | {"rope_local_base_freq": local["rope_theta"]}


def _one_rope(rotation, config, where):
  if rotation.get("partial_rotary_factor", 1) != 1:
    raise UserError(
      f"partial_rotary_factor is {rotation['partial_rotary_factor']}, but"
      " jalign only rotates whole heads.",
      where=where,
    )
  kind = rotation.get("rope_type", "default")
  if rotation.get("type", kind) != kind:
    raise UserError(
      f"rope_type is {kind!r}, but type is {rotation['type']!r}.", where=where
    )
  scaling = {
    k: v for k, v in rotation.items() if k not in _ROPE and v is not None
  }
  if kind == "default":
    scaling = {}
  else:
    scaling["rope_type"] = kind
  if kind in ("dynamic", "yarn"):
    trained = "original_max_position_embeddings"
    if trained not in scaling:
      scaling[trained] = config["max_position_embeddings"]
  return {"rope_theta": rotation["rope_theta"], "rope_scaling": scaling}


def config_to(c: ModelConfig) -> dict[str, Any]:
  """The config.json that describes what a model computes; see `config_from`.

  Keys that have another name in transformers 4 are written by both names.
  """
  name = c.model_type or family_of(c)
  older = _older_windows(name, c)
  if "rope_parameters" not in FAMILIES[name].absent:
    older |= _older_rope(c)
  return _described(c) | older


def _described(c):
  """The config.json of a model, by the names of transformers 5 only."""
  name = c.model_type or family_of(c)
  family = FAMILIES[name]
  rope = {k: v for k, v in c.rope_scaling if v is not None}
  rope = {"rope_type": "default", "rope_theta": c.rope_theta} | rope
  described = {key: getattr(c, key) for key in _SHARED}
  if rope["rope_type"] == "dynamic":  # its length is a key of the top level
    trained = rope.pop("original_max_position_embeddings")
    described["max_position_embeddings"] = trained
  described |= {"model_type": name, "architectures": [family.architecture]}
  described |= {"head_dim": c.head_dim, "hidden_act": c.hidden_act}
  for key in family.read:
    value = getattr(c, key)
    described[key] = list(value) if isinstance(value, tuple) else value
  for key in ("attn_logit_softcapping", "final_logit_softcapping"):
    if key in described:
      described[key] = described[key] or None
  if described.get("query_pre_attn_scalar") == 0:
    described["query_pre_attn_scalar"] = c.head_dim
  if "no_rope_layers" in described and not described["no_rope_layers"]:
    described["no_rope_layers"] = [1] * c.num_hidden_layers
  if c.rope_local_base_freq:
    local = {"rope_type": "default", "rope_theta": c.rope_local_base_freq}
    described["rope_parameters"] = {FULL: rope, SLIDING: local}
  else:
    described["rope_parameters"] = rope
  windows = c.windows
  described["sliding_window"] = c.sliding_window or None
  if name in ("qwen2", "qwen3", "smollm3", "gemma2", "gemma3_text"):
    described["layer_types"] = [SLIDING if w else FULL for w in windows]
    described["use_sliding_window"] = any(windows)
  described = {
    key: x for key, x in described.items() if key not in family.absent
  }
  return {family.renamed.get(key, key): x for key, x in described.items()}


def _older_rope(c):
  """Rotary positions in the form that transformers 4 reads."""
  older = {"rope_theta": c.rope_theta}
  scaling = {k: v for k, v in c.rope_scaling if v is not None}
  if scaling.get("rope_type") == "dynamic":  # see `_described`
    del scaling["original_max_position_embeddings"]
  if scaling:
    older["rope_scaling"] = scaling
  if c.rope_local_base_freq:
    older["rope_local_base_freq"] = c.rope_local_base_freq
  return older


def _older_windows(name, c):
  """Which layers have a window, by an older key if it can describe them."""
  sliding = [w > 0 for w in c.windows]
  if name == "gemma3_text":  # all layers but every n-th have a window
    for every in range(1, len(sliding) + 1):
      if sliding == [(i + 1) % every > 0 for i in range(len(sliding))]:
        return {"sliding_window_pattern": every}
  if name in ("qwen2", "qwen3"):  # the last layers have a window
    first = sliding.index(True) if any(sliding) else len(sliding)
    if all(sliding[first:]):
      return {"max_window_layers": first}
  return {}
