"""Which tensors a checkpoint has, and where parameters are in the tensors."""

import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from jalign.models.config import ModelConfig
from jalign.models.hf.description import family_of
from jalign.models.spec import inputs

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
# norm_position -> name of a norm -> its tensor.
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
_TOP = {
  "embed": "model.embed_tokens.weight",
  "norm": "model.norm.weight",
  "unembed": "lm_head.weight",
}


class TensorScheme(NamedTuple):
  """How a family's files name and store parameters.

  Attributes:
    layer: prefix of the names of a layer's tensors; "{}" stands for the layer.
    names: parameter of a layer -> tensor, where it differs from Llama's; "{}"
      stands for the expert.
    fused: tensor -> the parameters that it holds, outputs one after another.
    top: parameter outside of layers -> tensor.
    inputs_first: whether the files' matrices are [inputs, outputs], as ours
      are.
  """

  layer: str = "model.layers.{}."
  names: Mapping[str, str] = {}
  fused: Mapping[str, tuple[str, ...]] = {}
  top: Mapping[str, str] = _TOP
  inputs_first: bool = False


_SCHEMES = {
  "phi3": TensorScheme(
    fused={
      "self_attn.qkv_proj.weight": ("wq", "wk", "wv"),
      "mlp.gate_up_proj.weight": ("gate", "up"),
    }
  ),
  "mixtral": TensorScheme(
    names={
      "router": "block_sparse_moe.gate.weight",
      "gate": "block_sparse_moe.experts.{}.w1.weight",
      "up": "block_sparse_moe.experts.{}.w3.weight",
      "down": "block_sparse_moe.experts.{}.w2.weight",
    }
  ),
  "qwen3_moe": TensorScheme(
    names={
      "router": "mlp.gate.weight",
      "gate": "mlp.experts.{}.gate_proj.weight",
      "up": "mlp.experts.{}.up_proj.weight",
      "down": "mlp.experts.{}.down_proj.weight",
    }
  ),
  "gpt2": TensorScheme(
    layer="transformer.h.{}.",
    names={
      "wo": "attn.c_proj.weight",
      "bo": "attn.c_proj.bias",
      "up": "mlp.c_fc.weight",
      "up_bias": "mlp.c_fc.bias",
      "down": "mlp.c_proj.weight",
      "down_bias": "mlp.c_proj.bias",
      "attn_norm": "ln_1.weight",
      "attn_norm_bias": "ln_1.bias",
      "mlp_norm": "ln_2.weight",
      "mlp_norm_bias": "ln_2.bias",
    },
    fused={
      "attn.c_attn.weight": ("wq", "wk", "wv"),
      "attn.c_attn.bias": ("bq", "bk", "bv"),
    },
    top={
      "embed": "transformer.wte.weight",
      "position_embed": "transformer.wpe.weight",
      "norm": "transformer.ln_f.weight",
      "norm_bias": "transformer.ln_f.bias",
      "unembed": "lm_head.weight",
    },
    inputs_first=True,
  ),
}


class Place(NamedTuple):
  """Where a parameter (of a layer, of an expert) is in the files.

  Attributes:
    name: name of the tensor; "{}" stands for the layer, and for the expert.
    stack: numbers of layers and of experts; () outside of layers.
    start: index of the parameter's first output in the tensor.
    inner: number of the parameter's axes that are inputs; 0 for a vector.
    shape: shape of the parameter's part of the tensor.
    transposed: whether a matrix is [outputs, inputs] in the file.
  """

  name: str
  stack: tuple[int, ...]
  start: int
  inner: int
  shape: tuple[int, ...]
  transposed: bool

  @property
  def outputs(self) -> int:
    """The tensor's axis that outputs are on."""
    return 0 if self.transposed else len(self.shape) - 1

  def names(self) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yields each tensor's index in the stacked parameter, and its name."""
    for index in itertools.product(*map(range, self.stack)):
      yield index, self.name.format(*index)


def places(c: ModelConfig, specs) -> dict[str, Place]:
  """Path of each parameter -> its place in the files."""
  family = family_of(c)
  scheme = _SCHEMES.get(family, TensorScheme())
  names = {**_ATTENTION, **_MLP, **_NORMS[c.norm_position], **scheme.names}
  by_path = {
    path: _place(scheme.top[path], spec.shape, (), 1, 0, False)
    for path, spec in specs.items()
    if path != "blocks"
  }
  blocks = specs["blocks"]
  starts: dict[str, tuple[str, int]] = {}
  for whole, parts in scheme.fused.items():
    before = 0
    for part in parts:
      starts[part] = whole, before
      if part in blocks:
        shape = blocks[part].shape[1:]
        inner = inputs(part) if _is_matrix(part) else 0
        before += int(np.prod(shape[inner:]))
  for path, spec in blocks.items():
    name, start = starts.get(path) or (names[path], 0)
    matrix = _is_matrix(path)
    stack = spec.shape[: 1 + name.count("{}")]
    by_path[f"blocks/{path}"] = _place(
      scheme.layer + name,
      spec.shape[len(stack) :],
      stack,
      inputs(path) if matrix else 0,
      start,
      matrix and not scheme.inputs_first,
    )
  return by_path


def _is_matrix(path):
  """Whether a layer's parameter is a matrix, rather than a norm or a bias."""
  return not (
    path.endswith(("norm", "bias")) or path in ("bq", "bk", "bv", "bo")
  )


def _place(name, shape, stack, inner, start, transposed):
  inner = inner if len(shape) > 1 else 0
  sizes = int(np.prod(shape[:inner])), int(np.prod(shape[inner:]))
  if not inner:
    return Place(name, stack, start, 0, sizes[1:], False)
  sizes = sizes[::-1] if transposed else sizes
  return Place(name, stack, start, inner, sizes, transposed)


def tensors(c: ModelConfig, specs) -> dict[str, tuple[int, ...]]:
  """Name of each tensor of a checkpoint -> its shape."""
  shapes: dict[str, tuple[int, ...]] = {}
  for place in places(c, specs).values():
    axis = place.outputs
    for _, name in place.names():
      shape = list(place.shape)
      before = shapes[name][axis] if name in shapes else 0
      shape[axis] = max(place.start + shape[axis], before)
      shapes[name] = tuple(shape)
  return shapes
