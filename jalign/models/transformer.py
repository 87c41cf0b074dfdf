"""A decoder-only transformer as a `Model`: five pure functions of params.

Blocks are stacked [L, ...] and run by one `lax.scan`, so a program's size and
compile time do not grow with the depth.
"""

import functools

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jalign import logprobs
from jalign.models import layers
from jalign.models.config import ModelConfig
from jalign.models.spec import init_params, param_specs
from jalign.sharding import BATCH_AXES, constrain, mesh_axes
from jalign.types import Array, Head, Model, Params


class KVCache(struct.PyTreeNode):
  """Keys and values of every layer; row b holds `lengths[b]` tokens.

  Attributes:
    k: [L, B, S, G, E].
    v: [L, B, S, G, E].
    lengths: [B] int32, the position of each row's next token.
  """

  k: Array
  v: Array
  lengths: Array


@functools.lru_cache  # equal configs give the same functions, so one jit cache
def transformer(config: ModelConfig) -> Model:
  """The model of a config."""
  return Model(
    init=functools.partial(_init, c=config),
    forward=functools.partial(_forward, c=config),
    head=functools.partial(_head, c=config),
    init_cache=functools.partial(_init_cache, c=config),
    extend=functools.partial(_extend, c=config),
  )


def _init(key: Array, *, c: ModelConfig) -> Params:
  return init_params(param_specs(c), key, c.param_dtype)


def _block(p, x, positions, attend, c: ModelConfig):
  """One layer; `attend` maps (q, k, v) to ([B, T, H, E], its own carry)."""
  h = layers.rms_norm(x, p["attn_norm"], c.rms_norm_eps)
  q = layers.project(h, p["wq"])
  k = layers.project(h, p["wk"])
  v = layers.project(h, p["wv"])
  if c.attention_bias:
    q += p["bq"].astype(q.dtype)
    k += p["bk"].astype(k.dtype)
    v += p["bv"].astype(v.dtype)
  if c.qk_norm:
    q = layers.rms_norm(q, p["q_norm"], c.rms_norm_eps)
    k = layers.rms_norm(k, p["k_norm"], c.rms_norm_eps)
  q = layers.rope(q, positions, c.rope_theta)
  k = layers.rope(k, positions, c.rope_theta)
  attended, carry = attend(q, k, v)
  x += layers.project(attended, p["wo"], axes=2)
  h = layers.rms_norm(x, p["mlp_norm"], c.rms_norm_eps)
  x += layers.gated_mlp(h, p["gate"], p["up"], p["down"])
  return constrain(x, ("batch", None, None), c.rules), carry


def _embed(params, tokens, c: ModelConfig):
  # Gathered over fsdp first: a gather from a table split on both axes makes
  # the partitioner rematerialise it.
  table = constrain(params["embed"], ("vocab", None), c.rules)
  x = layers.embed(table, tokens, c.dtype)
  return constrain(x, ("batch", None, None), c.rules)


def _forward(
  params: Params,
  tokens: Array,
  positions: Array | None = None,
  segment_ids: Array | None = None,
  *,
  c: ModelConfig,
) -> Array:
  chex.assert_rank(tokens, 2)
  batch, length = tokens.shape
  order = jnp.arange(length, dtype=jnp.int32)
  if positions is None:
    positions = jnp.broadcast_to(order, tokens.shape)
  mask = jnp.broadcast_to(
    order[:, None] >= order[None], (batch, length, length)
  )
  if segment_ids is not None:
    mask &= segment_ids[:, :, None] == segment_ids[:, None]

  def body(x, p):
    attend = lambda q, k, v: (layers.attention(q, k, v, mask), None)
    return _block(p, x, positions, attend, c)

  body = jax.checkpoint(body) if c.remat else body
  x, _ = jax.lax.scan(
    body, _embed(params, tokens, c), params["blocks"], unroll=c.scan_unroll
  )
  return layers.rms_norm(x, params["norm"], c.rms_norm_eps)


def _head(params: Params, *, c: ModelConfig) -> Head:
  name = "embed" if c.tie_word_embeddings else "unembed"
  return Head(
    weight=params[name],
    vocab_axis=mesh_axes(("vocab",), c.rules)[0],
    batch_axes=BATCH_AXES,
  )


def _init_cache(params: Params, batch: int, size: int, *, c: ModelConfig):
  del params
  shape = (
    c.num_hidden_layers,
    batch,
    size,
    c.num_key_value_heads,
    c.head_dim,
  )
  axes = ("layers", "batch", None, "kv_heads", None)
  zeros = constrain(jnp.zeros(shape, c.dtype), axes, c.rules)
  return KVCache(zeros, zeros, jnp.zeros(batch, jnp.int32))


def _extend(
  params: Params,
  tokens: Array,
  lengths: Array,
  cache: KVCache,
  *,
  c: ModelConfig,
):
  """Appends `lengths[b]` of the tokens [B, C] to each row.

  Padding beyond a row's length writes slots that no query sees before a later
  token overwrites them; slots beyond the cache are dropped.
  """
  chex.assert_rank([tokens, lengths], [2, 1])
  batch, chunk = tokens.shape
  rows = jnp.arange(batch)[:, None]
  positions = cache.lengths[:, None] + jnp.arange(chunk, dtype=jnp.int32)
  slots = jnp.arange(cache.k.shape[2], dtype=jnp.int32)
  mask = slots <= positions[:, :, None]

  # The cache rides in the carry and is written in place, by one scatter a
  # layer; as scan inputs and outputs it would be copied at every step.
  def body(carry, p):
    x, k_all, v_all, layer = carry

    def attend(q, k, v):
      at = (layer, rows, positions)
      k_new = k_all.at[at].set(k, mode="drop")
      v_new = v_all.at[at].set(v, mode="drop")
      out = layers.attention(q, k_new[layer], v_new[layer], mask)
      return out, (k_new, v_new)

    x, (k_all, v_all) = _block(p, x, positions, attend, c)
    return (x, k_all, v_all, layer + 1), None

  x = _embed(params, tokens, c)
  start = (x, cache.k, cache.v, jnp.int32(0))
  (x, k, v, _), _ = jax.lax.scan(body, start, params["blocks"])
  last = jnp.maximum(lengths - 1, 0)[:, None, None]
  x = jnp.take_along_axis(x, last, axis=1)[:, 0]
  x = layers.rms_norm(x, params["norm"], c.rms_norm_eps)
  logits = logprobs.logits(_head(params, c=c), x)
  return logits, KVCache(k, v, cache.lengths + lengths)
