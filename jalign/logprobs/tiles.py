"""Tiles of a vocabulary: their sizes, logits and gradients.

Letters: N tokens, U columns of one tile.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jalign.logprobs.split import (
  Tiling,
  batch_sum,
  rows_gradient,
  whole_rows,
)
from jalign.sharding import axis_names, axis_size, platform
from jalign.types import Array, Head

# Size of one tile of float32 logits: a negligible part of an accelerator's
# memory; less on a CPU, whose caches hold the tile between passes over it.
TILE_BYTES = 32 * 2**20
CPU_TILE_BYTES = 8 * 2**20
# Each tile reads and writes the gradient by all hidden states. With fewer
# columns than these, that costs as much as the products do.
LEAST_COLUMNS, CPU_LEAST_COLUMNS = 2048, 512


class Form(NamedTuple):
  """Scale and soft cap of a head; hashable. See `Head` for the formula."""

  scale: float
  soft_cap: float | None


def form_of(head: Head) -> Form:
  """The static part of a head."""
  return Form(head.scale, head.soft_cap)


def tiling_of(
  shape: tuple[int, ...], tile: int | None, head: Head, *others: Head
) -> Tiling:
  """Chooses the tiling for tokens of a shape [B, T] on the current mesh.

  Args:
    shape: B and T.
    tile: columns of a tile; None chooses by the number of tokens.
    head: the head, whose weight [V, D] is cut.
    *others: heads of the same vocabulary, which are cut alike.
  """
  batch, length = shape
  mesh = jax.sharding.get_abstract_mesh()
  split = lambda axes: 1 if mesh.empty else axis_size(mesh, axes)
  vocab_axis, batch_axes = head.vocab_axis, head.batch_axes
  if split(vocab_axis) == 1:
    vocab_axis = None
  if split(batch_axes) == 1 or batch % split(batch_axes):
    batch_axes = None  # then every device computes the whole batch
  heads = (head, *others)
  shapes = [x.weight.shape for x in heads]  # type: ignore[union-attr]
  columns = shapes[0][0] // split(vocab_axis)
  width_axis = _width_axis(heads, [width for _, width in shapes], split)
  shared = set(axis_names(width_axis)) & set(axis_names(batch_axes))
  if shared and shared != set(axis_names(width_axis)):
    width_axis = None
  if tile is None:
    tile = _columns(max(batch // split(batch_axes) * length, 1))
    if width_axis is not None:
      # A tile of whole rows is gathered, and one of their gradients summed.
      most = TILE_BYTES // (4 * max(width for _, width in shapes))
      tile = min(tile, max(most // 128 * 128, 128))
  return Tiling(min(tile, columns), vocab_axis, batch_axes, width_axis)


def _width_axis(heads, widths, split):
  """Axes that split all heads' widths; else None, and all are gathered."""
  axis = heads[0].width_axis
  ways = split(axis)
  alike = all(head.width_axis == axis for head in heads)
  if ways == 1 or not alike or any(width % ways for width in widths):
    return None
  return axis


def _columns(rows: int) -> int:
  """Columns of a tile, a multiple of 128, for so many tokens on a device."""
  if platform() == "cpu":
    size, least = CPU_TILE_BYTES, CPU_LEAST_COLUMNS
  else:
    size, least = TILE_BYTES, LEAST_COLUMNS
  return max(size // (4 * rows) // 128 * 128, least)


def transform(form: Form, raw: Array) -> tuple[Array, Array | float]:
  """Logits from products hidden @ weight.T, and their derivative by these."""
  z = raw if form.scale == 1 else raw * form.scale
  if form.soft_cap is None:
    return z, form.scale
  bend = jnp.tanh(z / form.soft_cap)
  return form.soft_cap * bend, form.scale * (1.0 - jnp.square(bend))


def tile_logits(
  form: Form, hidden: Array, part: Array
) -> tuple[Array, Array | float]:
  """Float32 logits [N, U] of a tile, and their derivative by the products."""
  return transform(form, _dot("ND,UD->NU", hidden, part))


def scan_tiles(
  tiling: Tiling,
  body: Callable,
  carry: Any,
  hiddens: tuple[Array, ...],
  weights: tuple[Array, ...],
):
  """Folds `body(carry, start, parts)` over the tiles of one or more weights.

  Where the tile's size doesn't divide V, the last tile is smaller: no column is
  masked or computed twice, and no weight is padded.

  Args:
    tiling: rows of a tile, at most V, and how the weights are split.
    body: takes the carry, the index of the tile's first row, and the tile's
      rows [U, D] of each weight; returns the next carry.
    carry: the first carry.
    hiddens: states [N, D], one array for each weight; the rows of a weight are
      cast to the dtype of its states.
    weights: arrays [V, D], of the same V; this device's parts of them.

  Returns:
    The last carry.
  """
  columns, tile = weights[0].shape[0], tiling.tile
  count = columns // tile
  bits = tuple(map(_bits, weights))

  def cast(parts):
    parts = tuple(_floats(x, w.dtype) for x, w in zip(parts, weights))
    # Without the barrier XLA converts the whole weight before the loop.
    parts = (
      part if part.dtype == h.dtype else _barrier(part).astype(h.dtype)
      for part, h in zip(parts, hiddens)
    )
    return tuple(whole_rows(tiling, part) for part in parts)

  def step(carry, index):
    start = index * tile
    parts = tuple(jax.lax.dynamic_slice_in_dim(x, start, tile) for x in bits)
    return body(carry, start, cast(parts)), None

  indices = jnp.arange(count, dtype=jnp.int32)
  carry, _ = jax.lax.scan(step, carry, indices)
  start = count * tile
  if start == columns:
    return carry
  return body(carry, jnp.int32(start), cast(tuple(x[start:] for x in bits)))


def no_gradients(hidden: Array, weight: Array) -> tuple[Array, Array]:
  """Zero gradients by hidden states and weight, for `add_gradients` to add to.

  The gradient by the weight is in the form of `_bits`.
  """
  zeros = jnp.zeros(weight.shape, weight.dtype)
  return jnp.zeros(hidden.shape, jnp.float32), _bits(zeros)


def add_gradients(tiling: Tiling, sums, start, d_raw, hidden, part, dtype):
  """Adds a tile's part of the gradients by hidden states and weight.

  A tile's rows of the weight's gradient are written once: a tile sees all
  tokens of the device.

  Args:
    tiling: how the weight and the tokens are split.
    sums: the gradients so far, as `no_gradients` starts them.
    start: index of the tile's first row of the weight.
    d_raw: [N, U] gradient by the tile's products hidden @ weight.T.
    hidden: [N, D] states.
    part: [U, D] rows of the weight.
    dtype: dtype of the weight.
  """
  d_hidden, d_weight = sums
  d_raw = d_raw.astype(hidden.dtype)
  d_hidden += _dot("NU,UD->ND", d_raw, part)
  d_part = rows_gradient(tiling, _outer, d_raw, hidden)
  return d_hidden, jax.lax.dynamic_update_slice_in_dim(
    d_weight, _bits(d_part.astype(dtype)), start, 0
  )


def _outer(d_raw, hidden):
  if hidden.dtype == jnp.float32 and platform() == "cpu":
    # The transposed product takes a tenth less time; without the barrier XLA
    # would undo the transposition.
    return _barrier(_dot("ND,NU->DU", hidden, d_raw)).T
  return _dot("NU,ND->UD", d_raw, hidden)


def total_gradients(tiling: Tiling, sums, hidden: Array, dtype):
  """Sums the gradients over the devices.

  Returns:
    The gradients by the hidden states, in their shape and dtype, and by the
    weight, in `dtype`.
  """
  d_hidden, d_weight = sums[0], batch_sum(tiling, _floats(sums[1], dtype))
  if tiling.vocab_axis is not None:
    d_hidden = jax.lax.psum(d_hidden, tiling.vocab_axis)
  return d_hidden.astype(hidden.dtype).reshape(hidden.shape), d_weight


def ids_of(first: Array, z: Array) -> Array:
  """[U] token ids of the columns of a tile [N, U] that begins at `first`."""
  # Without the barrier XLA:CPU computes the ids within the loop over [N, U],
  # and then doesn't vectorise that loop.
  return _barrier(first + jnp.arange(z.shape[1], dtype=jnp.int32))


def picked_logits(z: Array, at: Array) -> Array:
  """Column `at` [N] of each row of a tile [N, U]; 0 if it isn't in the tile."""
  inside = (at >= 0) & (at < z.shape[1])
  at = jnp.clip(at, 0, z.shape[1] - 1)[:, None]
  picked = jnp.take_along_axis(z, at, 1, mode="promise_in_bounds")[:, 0]
  return jnp.where(inside, picked, 0.0)


def _bits(x: Array) -> Array:
  """A 16-bit float's bits, which XLA:CPU slices without converting them.

  It would convert 16-bit floats to float32 first: the whole weight, for every
  tile. Other dtypes are returned as they are.
  """
  short = jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize == 2
  return jax.lax.bitcast_convert_type(x, jnp.uint16) if short else x


def _floats(x: Array, dtype) -> Array:
  """The inverse of `_bits`."""
  if x.dtype == dtype:
    return x
  return jax.lax.bitcast_convert_type(x, dtype)


_dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
_barrier = jax.lax.optimization_barrier
