"""One layer of the transformer, and the embedding, final norm and head."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jalign.lookup import lookup
from jalign.models import experts, layers, rope
from jalign.models.config import ModelConfig
from jalign.sharding import BATCH_AXES, constrain, mesh_axes
from jalign.types import Array, Head, Params


class LayerKind(NamedTuple):
  """How a layer differs from other layers.

  Attributes:
    turns: [E / 2] radians per position, or as `rope.frequencies` returns them.
    factor: factor on cosines and sines.
    window: number of keys that a query sees; `EVERY` for all keys.
  """

  turns: Array | np.ndarray
  factor: float
  window: int


EVERY = np.iinfo(np.int32).max


def kinds_of_layers(
  c: ModelConfig, lengths: Array
) -> tuple[list[LayerKind], bool]:
  """The kind of every layer, and whether all layers are of one kind.

  Args:
    c: the model's config.
    lengths: [B] number of tokens of each row, including tokens in the cache.
  """
  rotates = c.no_rope_layers or (1,) * c.num_hidden_layers
  local = c.rope_local_base_freq
  plain = rope.frequencies(c.head_dim, c.rope_theta, c.rope_scaling, lengths)
  layer_kinds = []
  for window, on in zip(c.windows, rotates):
    turns, factor = plain
    if window and local:
      turns, factor = rope.frequencies(c.head_dim, local, (), lengths)
    if not on:
      turns, factor = jnp.zeros_like(turns), 1.0
    layer_kinds.append(LayerKind(turns, factor, window or EVERY))
  alike = len(set(zip(c.windows, rotates))) == 1
  return layer_kinds, alike


def block(p, x, positions, attend, c: ModelConfig, kind: LayerKind):
  """Applies one layer to x [B, T, D].

  Args:
    p: the layer's parameters.
    x: [B, T, D] input.
    positions: [B, T] int32.
    attend: `(q, k, v) -> (attended [B, T, H, E], carry)`.
    c: the model's config.
    kind: the layer's kind.

  Returns:
    The output [B, T, D], and the carry of `attend`.
  """
  h = _norm(x, p, "attn_norm", c)
  q = layers.project(h, p["wq"])
  k = layers.project(h, p["wk"])
  v = layers.project(h, p["wv"])
  if c.attention_bias:
    q += p["bq"].astype(q.dtype)
    k += p["bk"].astype(k.dtype)
    v += p["bv"].astype(v.dtype)
  q, k = _norm(q, p, "q_norm", c), _norm(k, p, "k_norm", c)
  if not c.learned_positions:
    q = rope.rotate(q, positions, kind.turns, kind.factor)
    k = rope.rotate(k, positions, kind.turns, kind.factor)
  if c.query_pre_attn_scalar:
    q *= (c.head_dim / c.query_pre_attn_scalar) ** 0.5
  attended, carry = attend(q, k, v)
  out = layers.project(attended, p["wo"], axes=2)
  if c.attention_out_bias:
    out += p["bo"].astype(out.dtype)
  x += _norm(out, p, "attn_post_norm", c)
  h = _norm(x, p, "mlp_norm", c)
  x += _norm(_mlp(p, h, c), p, "mlp_post_norm", c)
  return constrain(x, ("batch", None, None), c.rules), carry


def _norm(x, p, name, c):
  """Applies the norm of that name; x unchanged if there is no such norm."""
  if name not in p:
    return x
  if c.norm_type == "layer":
    bias = p[f"{name}_bias"]
    return layers.layer_norm(x, p[name], bias, c.rms_norm_eps)
  return layers.rms_norm(x, p[name], c.rms_norm_eps, c.norm_offset)


def _mlp(p, x, c):
  """down(act(gate x) * up x), which is SwiGLU for silu; or the experts' mlp."""
  if c.num_experts:
    return experts.mlp(p, x, c)

  def project(x, name):
    y = layers.project(x, p[name])
    return y + p[f"{name}_bias"].astype(y.dtype) if c.mlp_bias else y

  act = layers.ACTIVATIONS[c.hidden_act]
  up = project(x, "up")
  inner = act(project(x, "gate")) * up if c.mlp_gated else act(up)
  return project(inner, "down")


def final_norm(params: Params, x: Array, c: ModelConfig) -> Array:
  """The norm before the head."""
  return _norm(x, params, "norm", c)


def embed(
  params: Params, tokens: Array, positions: Array, c: ModelConfig
) -> Array:
  """Embeddings [B, T, D] of tokens [B, T] at positions [B, T].

  The embedding of a learned position beyond the table is NaN, and not that of
  another position.
  """
  x = _rows(params, "embed", tokens, ("vocab", "embed"), c)
  if c.embedding_scale != 1:
    x *= jnp.asarray(c.embedding_scale, x.dtype)
  if c.learned_positions:
    x += _rows(params, "position_embed", positions, (None, "embed"), c)
  return constrain(x, ("batch", None, None), c.rules)


def _rows(params, name, indices, axes, c):
  """Rows of a table whose axes have these logical names."""
  vocab, width = (mesh_axes((axis,), c.rules)[0] for axis in axes)
  if isinstance(params["blocks"], tuple):
    width = None  # parameters that are prepared for decoding
  return lookup(
    params[name],
    indices,
    c.dtype,
    vocab_axis=vocab,
    width_axis=width,
    batch_axes=BATCH_AXES,
  )


def head(params: Params, *, c: ModelConfig) -> Head:
  """The output layer, in the form that jalign.logprobs takes."""
  name = "embed" if c.tie_word_embeddings else "unembed"
  return Head(
    weight=params[name],
    soft_cap=c.final_logit_softcapping or None,
    vocab_axis=mesh_axes(("vocab",), c.rules)[0],
    batch_axes=BATCH_AXES,
    width_axis=mesh_axes(("embed",), c.rules)[0],
  )
