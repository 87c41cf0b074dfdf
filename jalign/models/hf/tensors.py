"""Which tensors a checkpoint has, and where each lies in the parameters."""

from typing import NamedTuple

import numpy as np

from jalign.models.config import ModelConfig
from jalign.models.hf.families import FAMILIES, family_of

_ATTENTION = {
  "wq": "self_attn.q_proj.weight",
  "wk": "self_attn.k_proj.weight",
  "wv": "self_attn.v_proj.weight",
  "wo": "self_attn.o_proj.weight",
  "bq": "self_attn.q_proj.bias",
  "bk": "self_attn.k_proj.bias",
  "bv": "self_attn.v_proj.bias",
  "bo": "self_attn.o_proj.bias",
  "q_norm": "self_attn.q_norm.weight",
  "k_norm": "self_attn.k_norm.weight",
}
_MLP = {
  "gate": "mlp.gate_proj.weight",
  "up": "mlp.up_proj.weight",
  "down": "mlp.down_proj.weight",
  "gate_bias": "mlp.gate_proj.bias",
  "up_bias": "mlp.up_proj.bias",
  "down_bias": "mlp.down_proj.bias",
}
# By where norms stand.
_NORMS = {
  "pre": {
    "attn_norm": "input_layernorm.weight",
    "mlp_norm": "post_attention_layernorm.weight",
  },
  "post": {
    "attn_post_norm": "post_attention_layernorm.weight",
    "mlp_post_norm": "post_feedforward_layernorm.weight",
  },
  "both": {
    "attn_norm": "input_layernorm.weight",
    "attn_post_norm": "post_attention_layernorm.weight",
    "mlp_norm": "pre_feedforward_layernorm.weight",
    "mlp_post_norm": "post_feedforward_layernorm.weight",
  },
}
# Several of ours one below the other in one tensor.
_FUSED = {
  "self_attn.qkv_proj.weight": ("wq", "wk", "wv"),
  "mlp.gate_up_proj.weight": ("gate", "up"),
}
_TOP = {
  "embed": "model.embed_tokens.weight",
  "norm": "model.norm.weight",
  "unembed": "lm_head.weight",
}
# Matrices that a file holds as we do; others it holds transposed.
_TABLES = ("embed", "unembed")


class Place(NamedTuple):
  """Where a parameter, or a layer of it, lies in a file.

  Attributes:
    name: of the tensor; "{}" stands for the layer.
    start: its first row in the tensor.
    shape: of its part of the tensor: rows, and columns of a matrix.
    transposed: whether the part's transpose, reshaped, is the parameter.
  """

  name: str
  start: int
  shape: tuple[int, ...]
  transposed: bool


def places(c: ModelConfig, specs) -> dict[str, Place]:
  """Path -> place of every parameter; blocks without their first axis."""
  names = _ATTENTION | _MLP | _NORMS[c.norm_position]
  fused = _FUSED if FAMILIES[family_of(c)].fused else {}
  tops = {k: s for k, s in specs.items() if k != "blocks"}
  found = {
    path: _place(path, _TOP[path], spec.shape, 0) for path, spec in tops.items()
  }
  blocks = {k: spec.shape[1:] for k, spec in specs["blocks"].items()}
  for path, shape in blocks.items():
    name, before = names[path], 0
    for whole, parts in fused.items():
      if path in parts:
        name = whole
        for part in parts[: parts.index(path)]:
          before += _rows(part, blocks[part])
    found[f"blocks/{path}"] = _place(
      path, f"model.layers.{{}}.{name}", shape, before
    )
  return found


def _rows(path, shape):
  """Rows of a matrix in a file: its outputs."""
  return int(np.prod(shape[_inner(path) :]))


def _inner(path):
  """How many of a weight's axes are its inputs."""
  return 2 if path == "wo" else 1


def _place(path, name, shape, start):
  if path in _TABLES:
    return Place(name, start, shape, False)
  if "norm" in path or "bias" in path or path.startswith("b"):
    return Place(name, start, (int(np.prod(shape)),), False)
  inner = int(np.prod(shape[: _inner(path)]))
  return Place(name, start, (_rows(path, shape), inner), True)


def tensors(c: ModelConfig, specs) -> dict[str, tuple[int, ...]]:
  """Name -> shape of every tensor of a checkpoint."""
  found: dict[str, tuple[int, ...]] = {}
  for path, place in places(c, specs).items():
    layers = c.num_hidden_layers if path.startswith("blocks/") else 1
    for name in map(place.name.format, range(layers)):
      rows = max(place.start + place.shape[0], *found.get(name, (0,))[:1], 0)
      found[name] = (rows, *place.shape[1:])
  return found
