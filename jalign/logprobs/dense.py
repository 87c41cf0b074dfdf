"""Whole logits: of single positions, and of heads that can't be streamed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jalign.logprobs.tiles import TILE_BYTES, form_of, transform
from jalign.products import matmul
from jalign.types import Array, Head


def logits(head: Head, hidden: Array) -> Array:
  """Dense logits, for tests and for single positions.

  Args:
    head: the model's head.
    hidden: [..., D].

  Returns:
    [..., V] float32.
  """
  if head.dense is not None:
    return head.dense(hidden).astype(jnp.float32)
  weight: Array = head.weight  # type: ignore[assignment]
  raw = matmul(
    hidden.reshape(-1, hidden.shape[-1]),
    weight.astype(hidden.dtype),
    transposed=True,
  )
  return transform(form_of(head), raw)[0].reshape(*hidden.shape[:-1], -1)


def by_chunks(head: Head, function: Callable, *arrays: Any) -> Any:
  """Applies a function to chunks of tokens; its gradient recomputes logits.

  Args:
    head: the head whose logits the function makes; their size sets the chunk's
      length C.
    function: takes trees of arrays [B, C, ...] and returns such a tree.
    *arrays: trees of arrays [B, T, ...]; the first is the hidden states.

  Returns:
    A tree of arrays [B, T, ...].
  """
  batch, length = arrays[0].shape[:2]
  columns = jax.eval_shape(lambda h: logits(head, h), arrays[0]).shape[-1]
  chunk = max(1, min(length, TILE_BYTES // (4 * columns * max(batch, 1))))
  pad = -length % chunk

  def split(x):
    x = jnp.pad(x, [(0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(batch, -1, chunk, *x.shape[2:]), 1, 0)

  of_chunk = jax.checkpoint(lambda parts: function(*parts))
  out = jax.lax.map(of_chunk, jax.tree.map(split, arrays))

  def join(x):
    x = jnp.moveaxis(x, 0, 1)  # [B, chunks, C, ...]
    return x.reshape(batch, -1, *x.shape[3:])[:, :length]

  return jax.tree.map(join, out)
