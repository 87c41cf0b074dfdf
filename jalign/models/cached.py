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
from jalign.models import layers
from jalign.models.block import block, embed, head
from jalign.models.config import ModelConfig
from jalign.models.spec import param_specs
from jalign.sharding import constrain
from jalign.types import Array, Params

_CACHE_AXES = ("batch", "kv_heads", None, None)


class KVCache(struct.PyTreeNode):
  """Keys and values of every layer; row b holds `lengths[b]` tokens.

  Attributes:
    k: L arrays [B, G, S, E].
    v: L arrays [B, G, S, E].
    lengths: [B] int32, the position of each row's next token.
  """

  k: tuple[Array, ...]
  v: tuple[Array, ...]
  lengths: Array


def prepare(params: Params, *, c: ModelConfig) -> Params:
  """The parameters as decoding wants them; see the head of this file.

  Args:
    params: as from `init`, or prepared already: these come back as they are.
    c: the model's config.

  Returns:
    A tree with the keys of `params`; `blocks` is a tuple of L trees. It takes
    as much memory again as the parameters, in the dtype of the products.
  """
  if isinstance(params["blocks"], tuple):
    return params
  specs = param_specs(c)

  def place(x, axes):
    axes = tuple(None if axis == "embed" else axis for axis in axes)
    return constrain(x.astype(c.dtype), axes, c.rules)

  blocks = [
    {
      k: place(x[i], specs["blocks"][k].axes[1:])
      for k, x in params["blocks"].items()
    }
    for i in range(c.num_hidden_layers)
  ]
  rest = {
    k: place(x, specs[k].axes) for k, x in params.items() if k != "blocks"
  }
  # The barrier keeps the loop from making the slices at every step.
  return jax.lax.optimization_barrier(rest | {"blocks": tuple(blocks)})


def init_cache(
  params: Params, batch: int, size: int, *, c: ModelConfig
) -> KVCache:
  """An empty cache of `size` tokens a row."""
  del params
  shape = (batch, c.num_key_value_heads, size, c.head_dim)
  zeros = constrain(jnp.zeros(shape, c.dtype), _CACHE_AXES, c.rules)
  layers_ = (zeros,) * c.num_hidden_layers
  return KVCache(layers_, layers_, jnp.zeros(batch, jnp.int32))


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
  batch, chunk = tokens.shape
  positions = cache.lengths[:, None] + jnp.arange(chunk, dtype=jnp.int32)
  slots = jnp.arange(cache.k[0].shape[2], dtype=jnp.int32)
  mask = slots <= positions[:, :, None]
  rows = jnp.arange(batch)[:, None, None]
  heads = jnp.arange(c.num_key_value_heads)[None, :, None]
  at = (rows, heads, positions[:, None])
  x = embed(params, tokens, c)
  ks, vs = [], []
  for p, k_old, v_old in zip(_blocks(params, c), cache.k, cache.v):

    def attend(q, k, v, k_old=k_old, v_old=v_old):
      k = k_old.at[at].set(k.swapaxes(1, 2), mode="drop")
      v = v_old.at[at].set(v.swapaxes(1, 2), mode="drop")
      return layers.attention(q, k, v, mask), (k, v)

    x, (k, v) = block(p, x, positions, attend, c)
    ks.append(k)
    vs.append(v)
  last = jnp.maximum(lengths - 1, 0)[:, None, None]
  x = jnp.take_along_axis(x, last, axis=1)[:, 0]
  x = layers.rms_norm(x, params["norm"], c.rms_norm_eps)
  logits = logprobs.logits(head(params, c=c), x)
  return logits, KVCache(tuple(ks), tuple(vs), cache.lengths + lengths)


def _blocks(params: Params, c: ModelConfig):
  blocks = params["blocks"]
  if isinstance(blocks, tuple):
    return blocks
  cut = lambda i: jax.tree.map(lambda x: x[i], blocks)
  return [cut(i) for i in range(c.num_hidden_layers)]
