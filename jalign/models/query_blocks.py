"""XLA's attention of long sequences, a block of queries at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jalign.types import Array

# On accelerators, scores of whole sequences would need more memory than a
# layer's other activations.
QUERIES = 512


def divide(length: int) -> bool:
  """Whether sequences of a length make several whole blocks."""
  return length > QUERIES and length % QUERIES == 0


def attend(
  whole: Callable[..., Array], q: Array, k: Array, v: Array, mask: Array
) -> Array:
  """Attends with QUERIES queries at a time, forward and backward.

  Only the scores of these queries are in memory; the backward pass computes
  them again.

  Args:
    whole: `(q, k, v, mask) -> [B, T, H, E]` for any number of queries.
    q: [B, T, H, E] queries; QUERIES divides T.
    k: [B, G, S, E] keys.
    v: [B, G, S, E] values.
    mask: [B, T, S] bool, True where a query may see a key.

  Returns:
    [B, T, H, E].
  """
  # The gradients by keys and values are summed over blocks: in float32.
  wide = k.astype(jnp.float32), v.astype(jnp.float32)

  def cut(x):
    blocks = x.reshape(x.shape[0], -1, QUERIES, *x.shape[2:])
    return jnp.moveaxis(blocks, 1, 0)

  @jax.checkpoint
  def block(part):
    q, mask = part
    return whole(q, wide[0].astype(k.dtype), wide[1].astype(v.dtype), mask)

  out = jax.lax.map(block, (cut(q), cut(mask)))
  return jnp.moveaxis(out, 0, 1).reshape(q.shape)
