"""Decoding with a cache: prefill, chunks and single tokens.

Parameters are laid out anew for it (`prepare`), once for a whole response. In
training they are stacked [L, ...] and scanned; a step that reads each weight
once, from memory, would spend most of its time on cutting slices out of the
stack. So layers are apart here, cast to the dtype of the products, and split
over `tensor` alone: a step gathers no weight.
"""

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jalign import logprobs
from jalign.models import attention
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
from jalign.sharding import constrain
from jalign.types import Array, Params

_CACHE_AXES = ("batch", "kv_heads", None, None)


class KVCache(struct.PyTreeNode):
  """Keys and values of every layer; row b holds `lengths[b]` tokens.

  With `cache_dtype="int8"` a key or value is 127 steps of its own scale (one
  number for each row, head and slot) either way, and off by half a step at
  most: 1/254 of its largest entry. Logits of two layers at their initial
  weights are off by 0.2 % of their spread at most (root mean square), and with
  weights twelve times as large by 1 %. Attention reads the rounded keys in a
  prefill too: how a prompt is cut into chunks makes no difference.

  Attributes:
    k: L arrays [B, G, S, E], or [B, G, E, S] (`attention.slots_last`).
    v: L arrays [B, G, S, E].
    lengths: [B] int32, the position of each row's next token.
    k_scale: L arrays [B, G, S] float32 where keys are int8, else none.
    v_scale: the same of values.
  """

  k: tuple[Array, ...]
  v: tuple[Array, ...]
  lengths: Array
  k_scale: tuple[Array, ...] = ()
  v_scale: tuple[Array, ...] = ()


def quantise(x: Array) -> tuple[Array, Array]:
  """int8 [..., E] and float32 scales [...] whose product is nearest to x."""
  x = x.astype(jnp.float32)
  scale = jnp.max(jnp.abs(x), -1) / 127
  steps = x / jnp.where(scale == 0, 1, scale)[..., None]
  return jnp.round(steps).astype(jnp.int8), scale


def prepare(params: Params, rows: int, *, c: ModelConfig) -> Params:
  """The parameters as decoding wants them; see the head of this file.

  Args:
    params: as from `init`, or prepared already: these come back as they are.
      A low-rank change of a weight is added to it.
    rows: that are decoded at a time.
    c: the model's config.

  Returns:
    A tree with the keys of `params`; `blocks` is a tuple of L trees. It takes
    as much memory again as the parameters, in the dtype of the products.
  """
  if isinstance(params["blocks"], tuple):
    return params
  specs = param_specs(c)
  # A single row of float32 is the one case that is slower so.
  few = rows == 1 and c.dtype == "float32"
  on = attention.platform() == "cpu" and not few
  turned = matrices(c) if on else ()

  def place(x, axes, dtype=c.dtype):
    axes = tuple(None if axis == "embed" else axis for axis in axes)
    return constrain(x.astype(dtype), axes, c.rules)

  def layer(k, x, i):
    x = whole(jax.tree.map(lambda y: y[i], x))
    # Routes are chosen in float32.
    dtype = x.dtype if k == "router" else c.dtype
    axes = specs["blocks"][k].axes[1:]
    if k not in turned:
      return place(x, axes, dtype)
    # Outputs come first.
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
  # The barrier keeps the loop from making the slices at every step.
  return jax.lax.optimization_barrier(outside | {"blocks": tuple(blocks)})


def init_cache(
  params: Params, batch: int, size: int, *, c: ModelConfig
) -> KVCache:
  """An empty cache of `size` tokens a row, or a few more (`slots`)."""
  del params
  shape = batch, c.num_key_value_heads, attention.slots(size, c)
  dtype = c.cache_dtype or c.dtype
  if not c.cache_dtype and attention.platform() == "cpu":
    # XLA:CPU writes to bfloat16 by converting all of it to float32 and back.
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

  Padding beyond a row's length writes slots that no query sees before a later
  token overwrites them; slots beyond the cache are dropped.
  """
  chex.assert_rank([tokens, lengths], [2, 1])
  chunk = jnp.arange(tokens.shape[1], dtype=jnp.int32)
  positions = cache.lengths[:, None] + chunk
  slots = jnp.arange(cache.v[0].shape[2], dtype=jnp.int32)
  mask = slots <= positions[:, :, None]
  put_keys = _put_last if attention.slots_last(c) else _put
  x = embed(params, tokens, positions, c)
  olds = [x for x in (cache.k, cache.v, cache.k_scale, cache.v_scale) if x]
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
      writes = (put_keys, _put, _put, _put)
      new = [w(a, b, positions) for w, a, b in zip(writes, old, new)]
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


def _put(old: Array, new: Array, positions: Array) -> Array:
  """[B, G, S, ...] with new [B, C, G, ...] written at positions [B, C]."""

  # Rows as batch and heads as window of the scatter: so each device of a mesh
  # writes its own part.
  def row(old, new, at):
    new = jnp.moveaxis(new, 0, 1).astype(old.dtype)
    return old.at[:, at].set(new, mode="drop")

  return jax.vmap(row)(old, new, positions)


def _put_last(old: Array, new: Array, positions: Array) -> Array:
  """The same where slots are the last axis."""

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
