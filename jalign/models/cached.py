"""Decoding with a cache: prefill, chunks and single tokens.

For decoding, parameters get another layout (`prepare`), once for a whole
response. In training the layers' parameters are stacked [L, ...] and scanned,
but a decoding step, which reads each weight once from memory, would spend most
of its time cutting slices out of the stack. So here each layer has arrays of
its own, cast to the dtype of the products and split over `tensor` only, so that
a step gathers no weight.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jalign import logprobs
from jalign.models import attention, beside
from jalign.models.block import (
  EVERY,
  block,
  embed,
  final_norm,
  head,
  kinds_of_layers,
)
from jalign.models.config import ModelConfig
from jalign.models.layers import Transposed
from jalign.models.lowrank import whole
from jalign.models.spec import inputs, matrices, param_specs
from jalign.sharding import constrain, platform
from jalign.types import Array, Params

_CACHE_AXES = ("batch", "kv_heads", None, None)


class KVCache(struct.PyTreeNode):
  """Keys and values of every layer; row b holds `lengths[b]` tokens.

  With `cache_dtype="int8"`, each key and each value (of a row, head and slot)
  has a scale, and its entries are rounded to -127 to 127 times that scale. The
  error is at most half a scale, which is 1/254 of the largest entry. In a model
  of two layers the logits' error was at most 0.2 % of their spread (root mean
  square) at initial weights, and 1 % with weights twelve times as large.
  Attention reads the rounded keys in a prefill too, so that it makes no
  difference how a prompt is cut into chunks.

  Attributes:
    k: L arrays [B, G, S, E], or [B, G, E, S] (`attention.slots_last`).
    v: L arrays [B, G, S, E].
    lengths: [B] int32, the position of each row's next token.
    k_scale: L arrays [B, G, S] float32 where keys are int8, else ().
    v_scale: L arrays [B, G, S] float32 where values are int8, else ().
  """

  k: tuple[Array, ...]
  v: tuple[Array, ...]
  lengths: Array
  k_scale: tuple[Array, ...] = ()
  v_scale: tuple[Array, ...] = ()


def quantise(x: Array) -> tuple[Array, Array]:
  """Rounds x [..., E] to int8 [..., E] times float32 scales [...]."""
  x = x.astype(jnp.float32)
  scale = jnp.max(jnp.abs(x), -1) / 127
  steps = x / jnp.where(scale == 0, 1, scale)[..., None]
  return jnp.round(steps).astype(jnp.int8), scale


def prepare(
  params: Params, rows: int, home: Any = None, *, c: ModelConfig
) -> Params:
  """Lays the parameters out for decoding; see the head of this file.

  Args:
    params: parameters as from `init`; parameters that are prepared already are
      returned unchanged. A low-rank change is added to its weight.
    rows: number of rows that are decoded at a time.
    home: the mesh that the parameters lie on, of the same devices; the current
      mesh by default.
    c: the model's config.

  Returns:
    A tree with the keys of `params`, where `blocks` is a tuple of L trees. It
    is a copy of the parameters in memory, in the dtype of the products.
  """
  if isinstance(params["blocks"], tuple):
    return params
  specs = param_specs(c)
  # Only for a single row of float32 are transposed weights slower.
  few = rows == 1 and c.dtype == "float32"
  on = platform() == "cpu" and not few
  turned = matrices(c) if on else ()

  def place(x, axes, dtype=c.dtype):
    # Each device casts its own part, exchanges pieces of it with those that
    # will share the layer with it, and only then gathers what it lacks.
    x = constrain(x.astype(dtype), axes, c.rules, home)
    x = constrain(x, axes, c.rules)
    axes = tuple(None if axis == "embed" else axis for axis in axes)
    return constrain(x, axes, c.rules)

  def layer(k, x, i):
    x = whole(jax.tree.map(lambda y: y[i], x))
    # Experts are chosen in float32.
    dtype = x.dtype if k == "router" else c.dtype
    axes = specs["blocks"][k].axes[1:]
    if k not in turned:
      return place(x, axes, dtype)
    # The outputs' axes come first.
    order = [*range(inputs(k), x.ndim), *range(inputs(k))]
    axes = tuple(axes[i] for i in order)
    return Transposed(place(x.transpose(order), axes, dtype))

  blocks = [
    {k: layer(k, x, i) for k, x in params["blocks"].items()}
    for i in range(c.num_hidden_layers)
  ]
  outside = {
    k: place(x, specs[k].axes) for k, x in params.items() if k != "blocks"
  }
  # Without the barrier the decode loop would cut the slices at every step.
  return jax.lax.optimization_barrier(outside | {"blocks": tuple(blocks)})


def init_cache(
  params: Params, batch: int, size: int, *, c: ModelConfig
) -> KVCache:
  """An empty cache for `size` tokens per row, or a few more (`slots`)."""
  del params
  shape = batch, c.num_key_value_heads, attention.slots(size, c)
  dtype = c.cache_dtype or c.dtype
  if not c.cache_dtype and platform() == "cpu":
    # To write to a bfloat16 array, XLA:CPU converts the whole array to float32
    # and back.
    dtype = "float32" if dtype == "bfloat16" else dtype

  def zeros(shape, dtype):
    x = constrain(jnp.zeros(shape, dtype), _CACHE_AXES[: len(shape)], c.rules)
    return (x,) * c.num_hidden_layers

  values = keys = zeros((*shape, c.head_dim), dtype)
  if attention.slots_last(c):
    keys = zeros((*shape[:2], c.head_dim, shape[2]), dtype)
  scales = zeros(shape, jnp.float32) if dtype == "int8" else ()
  lengths = jnp.zeros(batch, jnp.int32)
  return KVCache(keys, values, lengths, scales, scales)


def extend(
  params: Params,
  tokens: Array,
  lengths: Array,
  cache: KVCache,
  *,
  c: ModelConfig,
) -> tuple[Array, KVCache]:
  """Appends `lengths[b]` of the tokens [B, C] to each row.

  Padding beyond a row's length is written to slots that no query sees before a
  later token overwrites them. Tokens beyond the cache's slots are dropped. See
  `Policy.extend`.
  """
  chex.assert_rank([tokens, lengths], [2, 1])
  chunk = jnp.arange(tokens.shape[1], dtype=jnp.int32)
  positions = cache.lengths[:, None] + chunk
  slots = jnp.arange(cache.v[0].shape[2], dtype=jnp.int32)
  mask = slots <= positions[:, :, None]
  put_keys = _put_last if attention.slots_last(c) else _put
  x = embed(params, tokens, positions, c)
  olds = [x for x in (cache.k, cache.v, cache.k_scale, cache.v_scale) if x]
  reads_first = beside.reads_first(tokens.shape[1], c)
  layers = []
  layer_kinds, _ = kinds_of_layers(c, cache.lengths + lengths)
  for p, kind, *old in zip(_blocks(params, c), layer_kinds, *olds):
    seen = mask
    if kind.window != EVERY:
      seen = mask & (slots > positions[:, :, None] - kind.window)

    def attend(q, k, v, old=old, seen=seen):
      new = [k, v]
      if cache.k_scale:
        (k, k_scale), (v, v_scale) = quantise(k), quantise(v)
        new = [k, v, k_scale, v_scale]
      if reads_first:
        earlier = seen & (slots < positions[:, :, None])
        out = beside.attend(q, new, old, earlier, c.attn_logit_softcapping)
        # Without the barrier the cache would be copied before it is written to.
        out, old = jax.lax.optimization_barrier((out, old))
        return out, _written(old, new, positions, put_keys)
      new = _written(old, new, positions, put_keys)
      k, v, *scales = new
      out = attention.over_cache(q, k, v, seen, positions, c, tuple(scales))
      return out, new

    x, new = block(p, x, positions, attend, c, kind)
    layers.append(new)
  last = jnp.maximum(lengths - 1, 0)[:, None, None]
  x = jnp.take_along_axis(x, last, axis=1)[:, 0]
  logits = logprobs.logits(head(params, c=c), final_norm(params, x, c))
  k, v, *scales = zip(*layers)
  return logits, KVCache(k, v, cache.lengths + lengths, *scales)


def _written(olds, news, positions, put_keys) -> list[Array]:
  """Keys, values and scales after the new ones are written to them."""
  writes = (put_keys, _put, _put, _put)
  return [w(a, b, positions) for w, a, b in zip(writes, olds, news)]


def _put(old: Array, new: Array, positions: Array) -> Array:
  """Writes new [B, C, G, ...] to old [B, G, S, ...] at positions [B, C]."""

  # Rows are the scatter's batch and heads its window, so that each device of a
  # mesh writes its own part.
  def row(old, new, at):
    new = jnp.moveaxis(new, 0, 1).astype(old.dtype)
    return old.at[:, at].set(new, mode="drop")

  return jax.vmap(row)(old, new, positions)


def _put_last(old: Array, new: Array, positions: Array) -> Array:
  """As `_put`, for an array [B, G, E, S], whose slots are the last axis."""

  def row(old, new, at):
    new = jnp.moveaxis(new, 0, -1).astype(old.dtype)
    return old.at[..., at].set(new, mode="drop")

  return jax.vmap(row)(old, new, positions)


def _blocks(params: Params, c: ModelConfig):
  blocks = params["blocks"]
  if isinstance(blocks, tuple):
    return blocks
  cut = lambda i: jax.tree.map(lambda x: x[i], blocks)
  return [cut(i) for i in range(c.num_hidden_layers)]
