"""A vocabulary that is split over a mesh: who has which part, and exchanges.

A weight [V, D] may be split along V, along D, or along both. Along V, every
device streams its own part of the vocabulary, and only statistics of the tokens
cross devices. Along D (fully sharded data parallelism), the devices gather one
tile of rows at a time, in the dtype of the products, and sum and divide each
tile of the gradient among them at once: no device ever holds all of a weight or
of its gradient.

Letters: N tokens, U columns of one tile.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jalign.sharding import axis_names, axis_size
from jalign.types import Array


class Tiling(NamedTuple):
  """How a computation is cut; hashable.

  Attributes:
    tile: columns of a tile.
    vocab_axis: mesh axes over which the vocabulary is split, or None.
    batch_axes: mesh axes over which the rows are split, or None.
    width_axis: mesh axes over which the weights' width D is split, or None.
  """

  tile: int
  vocab_axis: Any
  batch_axes: Any
  width_axis: Any = None


def mapped(tiling: Tiling, function: Callable, kinds: str, out: str):
  """Maps a function over each device's part; itself where nothing is split.

  Args:
    tiling: which axes are split.
    function: takes and returns local arrays.
    kinds: a letter for each argument, W for a weight [V, D] and R for an
      array of rows [B, ...], or a tree of such arrays.
    out: a letter for each array that the function returns; one letter R if it
      returns a tree of rows.
  """
  if tiling[1:] == (None, None, None):
    return function
  spec = {
    "W": PartitionSpec(tiling.vocab_axis, tiling.width_axis),
    "R": PartitionSpec(tiling.batch_axes),
  }
  out_specs = tuple(spec[kind] for kind in out)
  return jax.shard_map(
    function,
    in_specs=tuple(spec[kind] for kind in kinds),
    out_specs=out_specs if len(out) > 1 else out_specs[0],
    check_vma=False,  # else the scan's zeros must be marked as varying
  )


def first_id(tiling: Tiling, weight: Array) -> Array:
  """Token id of the first row of this device's part of the weight."""
  if tiling.vocab_axis is None:
    return jnp.int32(0)
  return jax.lax.axis_index(tiling.vocab_axis) * weight.shape[0]


def ways(tiling: Tiling) -> int:
  """Number of parts that the weights' width is split into."""
  if tiling.width_axis is None:
    return 1
  return axis_size(jax.sharding.get_abstract_mesh(), tiling.width_axis)


def whole_rows(tiling: Tiling, part: Array) -> Array:
  """Rows [U, D] of a weight, from this device's columns of them."""
  if tiling.width_axis is None:
    return part
  return jax.lax.all_gather(part, tiling.width_axis, axis=1, tiled=True)


def rows_gradient(
  tiling: Tiling, product: Callable, d_raw: Array, hidden: Array
) -> Array:
  """Gradient by rows of a weight, in this device's columns.

  It is summed over the devices that share the width; `batch_sum` sums over the
  others, once for all tiles.

  Args:
    tiling: how the weight and the tokens are split.
    product: `(d_raw, hidden) -> [U, D]` float32, d_raw.T @ hidden.
    d_raw: [N, U] gradient by the products of this device's tokens.
    hidden: [N, D] states of this device's tokens.
  """
  if tiling.width_axis is None:
    return product(d_raw, hidden)
  if _shares_rows(tiling):
    whole = product(d_raw, hidden)
    return jax.lax.psum_scatter(
      whole, tiling.width_axis, scatter_dimension=1, tiled=True
    )
  # The devices that share the width have the same tokens, so that each computes
  # its own columns.
  width = hidden.shape[1] // ways(tiling)
  start = jax.lax.axis_index(tiling.width_axis) * width
  own = jax.lax.dynamic_slice_in_dim(hidden, start, width, axis=1)
  return product(d_raw, own)


def batch_sum(tiling: Tiling, d_weight: Array) -> Array:
  """Sums a weight's gradient over devices whose sums are still their own."""
  done = axis_names(tiling.width_axis) if _shares_rows(tiling) else ()
  rest = tuple(
    axis
    for axis in axis_names(tiling.batch_axes)
    if axis not in done and jax.lax.axis_size(axis) > 1
  )
  return jax.lax.psum(d_weight, rest) if rest else d_weight


def _shares_rows(tiling):
  """Whether the devices that share the width split the tokens, too."""
  return set(axis_names(tiling.width_axis)) <= set(
    axis_names(tiling.batch_axes)
  )
