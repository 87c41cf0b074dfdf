"""Work on counted tokens alone: the others never meet the vocabulary.

Of a batch of preferences a third to a half is prompts and padding. Counted
rows move to the front, and the smallest of a few static numbers of rows that
holds them is computed. Each number is a branch to compile, half a second on a
CPU; so where the products are small, all rows are computed.

Letters: N = B * T tokens, S rows of one size.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jalign.logprobs.tiles import Tiling, mapped
from jalign.types import Array

SIZES = 5
LEAST_FLOP = 1e10


def sizes_of(tokens: int, parameters: int) -> tuple[int, ...]:
  """Rising numbers of rows to choose among, the last of them all.

  Args:
    tokens: on a device.
    parameters: of the device's part of all weights that a row meets.
  """
  if 2.0 * tokens * parameters < LEAST_FLOP:
    return (tokens,)
  step = -(-tokens // SIZES)
  step += -step % 8
  return (*range(step, tokens, step), tokens)


def on_counted(
  tiling: Tiling,
  function: Callable,
  kinds: str,
  out: str,
  mask: Array | None,
  *arrays: Any,
):
  """`function` of each device's counted rows; what it says of others is 0.

  Args:
    tiling: which axes are split; all devices compute equally many rows.
    function: of local arrays, whose rows are tokens in no order.
    kinds: a letter for each array: W for a weight, R for rows [B, T, ...].
    out: the same for what it returns; one letter for a tree of rows.
    mask: [B, T] bool, True where a token counts; None where all do.
    *arrays: what the function takes, each perhaps a tree.
  """
  if mask is None:
    return mapped(tiling, function, kinds, out)(*arrays)
  local = functools.partial(_local, tiling, function, kinds, out)
  return mapped(tiling, local, "R" + kinds, out)(mask, *arrays)


def _local(tiling, function, kinds, out, mask, *arrays):
  weights = [x.size for kind, x in zip(kinds, arrays) if kind == "W"]
  sizes = sizes_of(mask.size, sum(weights))
  run = functools.partial(_on_rows, function, kinds, out, arrays)
  if len(sizes) == 1:

    def zeroed(x):
      ones = (1,) * (x.ndim - 2)
      return jnp.where(mask.reshape(*mask.shape, *ones), x, 0)

    return run(zeroed, zeroed)
  count = jnp.sum(mask, dtype=jnp.int32)
  if tiling.batch_axes is not None:
    count = jax.lax.pmax(count, tiling.batch_axes)

  def branch(size):
    # Past the counted rows stands N, which reads zeros and writes nothing.
    rows = jnp.nonzero(mask.reshape(-1), size=size, fill_value=mask.size)[0]

    def take(x):
      x = jnp.asarray(x).reshape(-1, *x.shape[2:])
      return x.at[rows].get(mode="fill", fill_value=0)[None]

    def put(x):
      zeros = jnp.zeros((mask.size, *x.shape[2:]), x.dtype)
      x = zeros.at[rows].set(x[0], mode="drop", unique_indices=True)
      return x.reshape(*mask.shape, *x.shape[1:])

    return run(take, put)

  branches = [functools.partial(branch, size) for size in sizes]
  return jax.lax.switch(_index(sizes, count), branches)


def _on_rows(function, kinds, out, arrays, take, put):
  """`function` of the rows that are taken, its own put back; weights as is."""
  results = function(
    *(
      x if kind == "W" else jax.tree.map(take, x)
      for kind, x in zip(kinds, arrays)
    )
  )
  if len(out) == 1:
    return jax.tree.map(put, results)
  return tuple(x if kind == "W" else put(x) for kind, x in zip(out, results))


def _index(sizes, count):
  """Of the smallest size that holds `count` rows.

  Under vmap the one that holds the most: a choice of each example's own would
  compute every branch for all.
  """

  @jax.custom_batching.custom_vmap
  def index(count):
    return jnp.searchsorted(jnp.asarray(sizes, jnp.int32), count)

  @index.def_vmap
  def _(axis_size, batched, count):
    del axis_size
    return index(jnp.max(count) if batched[0] else count), False

  return index(count)
