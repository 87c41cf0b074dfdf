"""Rows of a table that is split over a mesh, without a gather of the table.

Where the table's width is split over axes that split the tokens, too (fully
sharded data parallelism), each device looks up its own columns for the tokens
of all these devices, and an all-to-all brings the columns of a token together
on the token's device. So devices exchange as many states as they have tokens,
and a device adds up the gradient of its own part of the table.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jalign.sharding import axis_names, dividing
from jalign.types import Array


class _Split(NamedTuple):
  """How a table [V, D] and tokens [B, T] are split; hashable.

  Attributes:
    vocab: mesh axes over which V is split, or None.
    width: mesh axes over which D is split.
    batch: mesh axes over which B is split, or None.
    rows: V.
    table: dtype of the table.
    out: dtype of the states.
  """

  vocab: Any
  width: Any
  batch: Any
  rows: int
  table: str
  out: str


def lookup(
  table: Array,
  tokens: Array,
  dtype: Any,
  *,
  vocab_axis: Any = None,
  width_axis: Any = None,
  batch_axes: Any = None,
) -> Array:
  """Looks up the rows [B, T, D] of tokens [B, T] in a table [V, D].

  The row of a token beyond the table is NaN.

  Args:
    table: the table. Its gradient is summed in float32.
    tokens: int32.
    dtype: of the rows that are returned.
    vocab_axis: mesh axis (or axes) over which V is split, or None.
    width_axis: mesh axis (or axes) over which D is split, or None.
    batch_axes: mesh axes over which B is split, or None.
  """
  rows, width = table.shape
  width_axis = dividing(width_axis, width)
  batch_axes = dividing(batch_axes, tokens.shape[0])
  names = set(axis_names(width_axis))
  shared = names & set(axis_names(batch_axes))
  if not names or (shared and shared != names):
    found = jnp.take(table, tokens, axis=0)
    # The barrier keeps XLA from converting the whole table inside a loop.
    return jax.lax.optimization_barrier(found).astype(dtype)
  split = _Split(
    dividing(vocab_axis, rows),
    width_axis,
    batch_axes,
    rows,
    jnp.dtype(table.dtype).name,
    jnp.dtype(dtype).name,
  )
  return _lookup(split, table, tokens)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _lookup(split, table, tokens):
  local = functools.partial(_local, split)
  by_row = PartitionSpec(split.batch)
  part = PartitionSpec(split.vocab, split.width)
  return _mapped(local, (part, by_row), by_row)(table, tokens)


def _forward(split, table, tokens):
  return _lookup(split, table, tokens), tokens


def _backward(split, tokens, given):
  local = functools.partial(_local_backward, split)
  by_row = PartitionSpec(split.batch)
  part = PartitionSpec(split.vocab, split.width)
  return _mapped(local, (by_row, by_row), part)(tokens, given), None


_lookup.defvjp(_forward, _backward)


def _mapped(local, arguments, result):
  return jax.shard_map(
    local, in_specs=arguments, out_specs=result, check_vma=False
  )


def _local(split, part, tokens):
  """States [B, T, D] of this device's tokens."""
  at, known = _places(split, part.shape[0], tokens)
  inside = (at >= 0) & (at < part.shape[0])
  x = part.at[jnp.clip(at, 0, part.shape[0] - 1)].get(mode="promise_in_bounds")
  x = jax.lax.optimization_barrier(x).astype(split.out)
  x = jnp.where(inside[..., None], x, 0)
  if split.vocab is not None:
    x = jax.lax.psum(x, split.vocab)
  x = jnp.where(known[..., None], x, jnp.nan)
  if _shares_tokens(split):
    return jax.lax.all_to_all(x, split.width, 0, 2, tiled=True)
  return jax.lax.all_gather(x, split.width, axis=2, tiled=True)


def _local_backward(split, tokens, given):
  """The gradient by this device's part of the table."""
  shares = _shares_tokens(split)
  width = given.shape[-1] // jax.lax.axis_size(split.width)
  if shares:
    given = jax.lax.all_to_all(given, split.width, 2, 0, tiled=True)
  else:
    start = jax.lax.axis_index(split.width) * width
    given = jax.lax.dynamic_slice_in_dim(given, start, width, axis=2)
  ways = 1 if split.vocab is None else jax.lax.axis_size(split.vocab)
  rows = split.rows // ways
  at, _ = _places(split, rows, tokens)
  at = jnp.where(at < 0, rows, at)  # a negative index counts from the end
  sums = jnp.zeros((rows, width), jnp.float32)
  sums = sums.at[at].add(given.astype(jnp.float32), mode="drop")
  done = axis_names(split.width) if shares else ()
  rest = tuple(
    axis
    for axis in axis_names(split.batch)
    if axis not in done and jax.lax.axis_size(axis) > 1
  )
  sums = jax.lax.psum(sums, rest) if rest else sums
  return sums.astype(split.table)


def _places(split, rows, tokens):
  """Row of each token in this device's part, and whether the table has it.

  The tokens are those of all devices that share the table's width.
  """
  if _shares_tokens(split):
    tokens = jax.lax.all_gather(tokens, split.width, axis=0, tiled=True)
  tokens = jnp.where(tokens < 0, tokens + split.rows, tokens)
  known = (tokens >= 0) & (tokens < split.rows)
  if split.vocab is None:
    return tokens, known
  return tokens - jax.lax.axis_index(split.vocab) * rows, known


def _shares_tokens(split):
  """Whether the devices that share the width split the tokens, too."""
  batch = axis_names(split.batch)
  return all(axis in batch for axis in axis_names(split.width))
