"""Attention of one new token to a cache that doesn't hold the token yet.

On a TPU, a step of decoding is as fast as it reads weights and caches. If a
step wrote the new token's key first and read the cache then, the compiler would
move the cache to the core's own memory, write there, and move all of it back: a
second crossing of the whole cache. So a step reads the old cache beside the new
key and value, and writes afterwards, in place.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jalign.models.config import ModelConfig
from jalign.sharding import platform
from jalign.types import Array


def reads_first(chunk: int, c: ModelConfig) -> bool:
  """Whether to read the cache before the new tokens are written to it.

  Args:
    chunk: number of new tokens of a row.
    c: the model's config. Kernels read caches that hold the new token.
  """
  return chunk == 1 and c.attention != "pallas" and platform() == "tpu"


def attend(
  q: Array,
  new: Sequence[Array],
  old: Sequence[Array],
  mask: Array,
  soft_cap: float = 0.0,
) -> Array:
  """Attention of one query per row to earlier tokens and its own.

  The result is that of `attention.reference` after the new token's key and
  value are written to the cache.

  Args:
    q: [B, 1, H, E] queries.
    new: the new token's key and value [B, 1, G, E]; int8 with two scales [B, 1,
      G].
    old: the cache's keys and values [B, G, S, E]; int8 with two scales [B, G,
      S].
    mask: [B, 1, S] bool, True where the query may see an earlier token.
    soft_cap: bound on scores by tanh; 0 for no bound.

  Returns:
    [B, 1, H, E] in q's dtype.
  """
  batch, _, heads, width = q.shape
  keys, values, *scales = old
  dtype = q.dtype if scales else keys.dtype
  rows = q.reshape(batch, keys.shape[1], -1, width).astype(dtype)
  # The token's own key and value are rounded as the cache rounds them.
  key, value = (
    x[:, 0].astype(old.dtype).astype(jnp.float32)[:, :, None]
    for x, old in zip(new, (keys, values))
  )

  def product(a, b, axis):
    return jax.lax.dot_general(
      a.astype(dtype),
      b.astype(dtype),
      (((3,), (axis,)), ((0, 1), (0, 1))),
      preferred_element_type=jnp.float32,
    )

  def bounded(scores, of_keys):
    scores *= width**-0.5
    for scale in of_keys[:1]:
      scores *= scale
    return soft_cap * jnp.tanh(scores / soft_cap) if soft_cap else scores

  own_scales: list[Any] = [x[:, 0, :, None, None] for x in new[2:]]
  old_scales: list[Any] = [x[:, :, None] for x in scales]
  own = jnp.sum(rows.astype(jnp.float32) * key, -1, keepdims=True)
  own = bounded(own, own_scales)
  scores = bounded(product(rows, keys, 3), old_scales)
  scores = jnp.where(mask[:, None], scores, -jnp.inf)
  top = jnp.maximum(jnp.max(scores, -1, keepdims=True), own)
  weights, share = jnp.exp(scores - top), jnp.exp(own - top)
  total = jnp.sum(weights, -1, keepdims=True) + share
  weights, share = weights / total, share / total
  if scales:
    weights, share = weights * old_scales[1], share * own_scales[1]
  out = product(weights, values, 2)
  out += share.astype(dtype).astype(jnp.float32) * value
  return out.astype(q.dtype).reshape(batch, 1, heads, width)
