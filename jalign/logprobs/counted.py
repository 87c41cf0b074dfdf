"""Products with the vocabulary for counted tokens only.

A third to a half of a batch of preferences is prompts and padding, which no
loss counts. The states of counted tokens are moved to the front, and only the
smallest of a few static numbers of rows that holds them is computed. Each such
number is a branch, whose compilation takes half a second on a CPU and several
seconds for a TPU. So accelerators have fewer branches, from half of the rows;
and where the products are small, all rows are computed.

Letters: N = B * T tokens.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jalign.logprobs.split import Tiling, mapped, ways
from jalign.sharding import platform
from jalign.types import Array

# How many steps lead to all rows, and which of them is the smallest number.
STEPS, CPU_STEPS = (4, 2), (5, 1)
LEAST_FLOP = 1e10


def sizes_of(tokens: int, parameters: int) -> tuple[int, ...]:
  """Numbers of rows to choose among, rising; the last is all tokens.

  Args:
    tokens: number of tokens on a device.
    parameters: number of entries of all weights that a row is multiplied by, in
      the device's part.
  """
  if 2.0 * tokens * parameters < LEAST_FLOP:
    return (tokens,)
  steps, first = CPU_STEPS if platform() == "cpu" else STEPS
  step = -(-tokens // steps)
  step += -step % 8
  return (*range(first * step, tokens, step), tokens)


def on_counted(
  tiling: Tiling,
  function: Callable,
  kinds: str,
  out: str,
  mask: Array | None,
  *arrays: Any,
):
  """Applies a function to each device's counted rows; other rows become 0.

  Args:
    tiling: which axes are split; all devices compute equally many rows.
    function: takes local arrays, whose rows are tokens in any order.
    kinds: a letter for each array: W for a weight, R for rows [B, T, ...].
    out: a letter for each array that the function returns; one letter R if it
      returns a tree of rows.
    mask: [B, T] bool, True where a token counts; None where all tokens count.
    *arrays: arguments of the function, arrays or trees of arrays.

  Returns:
    What the function returns, in rows [B, T, ...] again.
  """
  if mask is None:
    return mapped(tiling, function, kinds, out)(*arrays)
  local = functools.partial(_local, tiling, function, kinds, out)
  return mapped(tiling, local, "R" + kinds, out)(mask, *arrays)


def _local(tiling, function, kinds, out, mask, *arrays):
  weights = [x.size for kind, x in zip(kinds, arrays) if kind == "W"]
  sizes = sizes_of(mask.size, sum(weights) * ways(tiling))
  run = functools.partial(_on_rows, function, kinds, out, arrays)
  if len(sizes) == 1:

    def zeroed(x):
      ones = (1,) * (x.ndim - 2)
      return jnp.where(mask.reshape(*mask.shape, *ones), x, 0)

    return run(zeroed, zeroed)
  count = jnp.sum(mask, dtype=jnp.int32)
  if tiling.batch_axes is not None:
    count = jax.lax.pmax(count, tiling.batch_axes)

  # Indices past the counted rows are N, which reads zeros, writes nothing.
  at = jnp.nonzero(mask.reshape(-1), size=mask.size, fill_value=mask.size)[0]

  def branch(size):
    rows = at[:size]

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
  """Applies `take` to rows, then the function, then `put` to its rows.

  Weights, among arguments and results, stay as they are.
  """
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
  """Index of the smallest size that holds `count` rows.

  Under vmap all examples take the size that holds the largest count: with an
  index per example, every branch would be computed for all examples.
  """

  @jax.custom_batching.custom_vmap
  def index(count):
    return jnp.searchsorted(jnp.asarray(sizes, jnp.int32), count)

  @index.def_vmap
  def _(axis_size, batched, count):
    del axis_size
    return index(jnp.max(count) if batched[0] else count), False

  return index(count)
