"""The tree of specs: each parameter's shape, logical axes and initialiser."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from jalign.models.config import ModelConfig
from jalign.types import Array, Params

_normal = jax.nn.initializers.normal
_ones = jax.nn.initializers.ones
_zeros = jax.nn.initializers.zeros


@dataclasses.dataclass(frozen=True)  # not a pytree: a leaf of the spec tree
class ParamSpec:
  """A parameter's shape, logical axes and initialiser.

  Attributes:
    shape: the parameter's shape.
    axes: a logical name, or None, for each axis; see jalign.sharding.RULES.
    init: `(key, shape, dtype) -> array`.
  """

  shape: tuple[int, ...]
  axes: tuple[str | None, ...]
  init: Callable[..., Array]


def param_specs(c: ModelConfig) -> Params:
  """Specs of all parameters of a model; those of layers are stacked [L, ...].

  This is the only place that names the parameters.
  """
  layers, d = c.num_hidden_layers, c.hidden_size
  h, g, e = c.num_attention_heads, c.num_key_value_heads, c.head_dim
  normal = _normal(c.initializer_range)
  # Weights at the end of the 2 L residual branches start smaller (GPT-2).
  residual = _normal(c.initializer_range * (2 * layers) ** -0.5)

  def block(shape, axes, init=normal):
    return ParamSpec((layers, *shape), ("layers", *axes), init)

  gain = _zeros if c.norm_offset else _ones
  blocks = {
    "wq": block((d, h, e), ("embed", "heads", None)),
    "wk": block((d, g, e), ("embed", "kv_heads", None)),
    "wv": block((d, g, e), ("embed", "kv_heads", None)),
    "wo": block((h, e, d), ("heads", None, "embed"), residual),
    **_mlp(c, block, residual),
  }
  stages = {"pre": ("",), "post": ("_post",), "both": ("", "_post")}
  for stage in stages[c.norm_position]:
    blocks[f"attn{stage}_norm"] = block((d,), (None,), gain)
    blocks[f"mlp{stage}_norm"] = block((d,), (None,), gain)
  if c.norm_type == "layer":
    blocks["attn_norm_bias"] = block((d,), (None,), _zeros)
    blocks["mlp_norm_bias"] = block((d,), (None,), _zeros)
  if c.attention_bias:
    blocks["bq"] = block((h, e), ("heads", None), _zeros)
    blocks["bk"] = block((g, e), ("kv_heads", None), _zeros)
    blocks["bv"] = block((g, e), ("kv_heads", None), _zeros)
  if c.attention_out_bias:
    blocks["bo"] = block((d,), (None,), _zeros)
  if c.qk_norm:
    blocks["q_norm"] = block((e,), (None,), gain)
    blocks["k_norm"] = block((e,), (None,), gain)
  if c.qk_norm_flat:
    blocks["q_norm"] = block((h, e), ("heads", None), gain)
    blocks["k_norm"] = block((g, e), ("kv_heads", None), gain)
  table = ParamSpec((c.vocab_size, d), ("vocab", "embed"), normal)
  specs = {
    "embed": table,
    "blocks": blocks,
    "norm": ParamSpec((d,), (None,), gain),
  }
  if c.norm_type == "layer":
    specs["norm_bias"] = ParamSpec((d,), (None,), _zeros)
  if c.learned_positions:
    shape = c.learned_positions, d
    specs["position_embed"] = ParamSpec(shape, (None, "embed"), normal)
  if not c.tie_word_embeddings:
    specs["unembed"] = table
  return specs


def _mlp(c, block, residual):
  """Specs of the parameters of a layer's mlp, or of its experts."""
  d, f = c.hidden_size, c.intermediate_size
  experts = (c.num_experts,) if c.num_experts else ()
  on = (None,) * len(experts)
  parameters = {
    "up": block((*experts, d, f), (*on, "embed", "mlp")),
    "down": block((*experts, f, d), (*on, "mlp", "embed"), residual),
  }
  if c.mlp_gated:
    parameters["gate"] = block((*experts, d, f), (*on, "embed", "mlp"))
  if c.num_experts:
    parameters["router"] = block((d, c.num_experts), ("embed", None))
  if c.mlp_bias:
    names = ("gate", "up") if c.mlp_gated else ("up",)
    for name in names:
      parameters[f"{name}_bias"] = block((f,), ("mlp",), _zeros)
    parameters["down_bias"] = block((d,), (None,), _zeros)
  return parameters


def matrices(c: ModelConfig) -> tuple[str, ...]:
  """Names of a layer's matrices that multiply all tokens: no experts'."""
  mlp = ("gate", "up", "down") if c.mlp_gated else ("up", "down")
  return ("wq", "wk", "wv", "wo", *(() if c.num_experts else mlp))


def inputs(path: str) -> int:
  """How many axes of a layer's matrix are inputs; the others are outputs.

  Args:
    path: name of the matrix in a block.
  """
  return 2 if path == "wo" else 1


def init_params(specs: Params, key: Array, dtype: Any = jnp.float32) -> Params:
  """Initialises the parameters of a tree of specs.

  Each parameter gets a key of its own, in the order of the sorted paths.
  """
  flat = traverse_util.flatten_dict(specs, sep="/")
  keys = jax.random.split(key, len(flat))
  return traverse_util.unflatten_dict(
    {
      path: flat[path].init(k, flat[path].shape, jnp.dtype(dtype))
      for path, k in zip(sorted(flat), keys)
    },
    sep="/",
  )


def param_table(specs: Params) -> str:
  """A text table: a line per parameter (path, shape, axes, size), a total."""
  rows = []
  for path, spec in traverse_util.flatten_dict(specs, sep="/").items():
    count = 1
    for size in spec.shape:
      count *= size
    rows.append((path, str(spec.shape), str(spec.axes), count))
  total = sum(row[-1] for row in rows)
  lines = [f"{p:<20} {s:<24} {a:<44} {n:>14,}" for p, s, a, n in rows]
  return "\n".join([*lines, f"{'total':<90} {total:>14,}"])
