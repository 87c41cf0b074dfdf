"""Decoding many prompts in few rows: a row that ends takes the next prompt."""

import jax
import jax.numpy as jnp

from jalign.decode.row_state import (
  DecodeOptions,
  Output,
  Prompts,
  Rows,
  draw_next,
  empty_output,
  mark_seen,
  start,
)
from jalign.sharding import axis_size, dividing
from jalign.types import Array, Params, Policy


def refilled(
  policy: Policy,
  params: Params,
  prompts: Prompts,
  options: DecodeOptions,
  *,
  slots: int,
  chunk: int,
  admit: int,
) -> Output:
  """Decodes Q prompts in S rows.

  Rows whose response has ended read their next prompts, `admit` rows together
  and `chunk` tokens at a time, while other rows wait; then all live rows draw a
  token.

  On a mesh, each group of devices that shares rows chooses among its own rows,
  so that no cache moves to another device.

  Args:
    policy: the policy's functions.
    params: params as `policy.prepare` returns them.
    prompts: Q prompts, taken in their order.
    options: how to draw and when to stop.
    slots: S.
    chunk: C, tokens of a prompt that a row reads at once.
    admit: number of rows that have to be idle before they read, as long as
      other rows draw; rounded up to as many in each group of devices.

  Returns:
    The output, with the same tokens as if every prompt had a row.
  """
  count, width = prompts.tokens.shape
  size = -(-width // chunk) * chunk
  padded = jnp.pad(prompts.tokens, [(0, 0), (0, size - width)])
  new_cache = lambda rows: policy.init_cache(
    params, rows, size + options.capacity
  )
  logits_shape = jax.eval_shape(
    lambda: policy.extend(
      params, padded[:1], prompts.lengths[:1], new_cache(1)
    )[0]
  )
  parts = logits_shape if isinstance(logits_shape, tuple) else (logits_shape,)
  vocab = parts[0].shape[-1]
  groups = _groups(policy, slots)
  admit = -(-admit // groups) * groups
  nothing = start(
    new_cache(admit), jnp.full(admit, count, jnp.int32), options, vocab
  )

  def idle(rows):
    return ~rows.live & (rows.prompt >= count)

  def reading(rows):
    return ~rows.live & (rows.prompt < count)

  def should_read(carry):
    rows, taken, _ = carry
    free = jnp.sum(idle(rows))
    left = count - taken
    able = jnp.minimum(free, left)
    enough = able >= jnp.minimum(admit, left)
    starved = ~jnp.any(rows.live)
    return jnp.any(reading(rows)) | ((able > 0) & (enough | starved))

  def read(carry):
    rows, taken, output = carry
    # Rows in the middle of a prompt come first, then idle rows.
    rank = jnp.where(reading(rows), 0, jnp.where(idle(rows), 1, 2))
    order = jnp.argsort(rank.reshape(groups, -1), stable=True)
    chosen = order[:, : admit // groups]
    part = jax.tree.map(lambda x: _take(x, chosen), rows)
    fresh = idle(part)
    prompt = taken + jnp.cumsum(fresh, dtype=jnp.int32) - 1
    prompt = jnp.where(fresh, jnp.minimum(prompt, count), part.prompt)
    part = jax.tree.map(
      lambda new, old: jnp.where(_like(fresh, old), new, old),
      nothing.replace(prompt=prompt),
      part.replace(prompt=prompt),
    )
    busy = ~part.live & (prompt < count)
    at = jnp.minimum(prompt, count - 1)
    columns = part.read[:, None] + jnp.arange(chunk)
    tokens = padded[at[:, None], jnp.minimum(columns, size - 1)]
    length = prompts.lengths[at]
    read = jnp.where(busy, jnp.clip(length - part.read, 0, chunk), 0)
    logits, cache = policy.extend(params, tokens, read, part.cache)
    valid = jnp.arange(chunk) < read[:, None]
    part = part.replace(
      cache=cache,
      read=part.read + read,
      live=busy & (part.read + read == length),
      seen=mark_seen(part.seen, tokens, valid),
    )
    part, output = draw_next(
      policy, params, options, prompts, part, logits, output
    )
    part = _retire(part, count)
    target = jnp.where(busy.reshape(chosen.shape), chosen, slots)
    rows = jax.tree.map(lambda x, new: _put(x, target, new), rows, part)
    taken += jnp.sum(fresh & busy, dtype=jnp.int32)
    return rows, taken, output

  def step(carry):
    rows, taken, output = jax.lax.while_loop(should_read, read, carry)
    logits, cache = policy.extend(
      params, rows.last[:, None], rows.live.astype(jnp.int32), rows.cache
    )
    rows = rows.replace(cache=cache)
    rows, output = draw_next(
      policy, params, options, prompts, rows, logits, output
    )
    return _retire(rows, count), taken, output

  def going(carry):
    rows, taken, _ = carry
    return (taken < count) | jnp.any(rows.prompt < count)

  rows = start(
    new_cache(slots), jnp.full(slots, count, jnp.int32), options, vocab
  )
  carry = rows, jnp.int32(0), empty_output(count, len(parts), options)
  return jax.lax.while_loop(going, step, carry)[2]


def _retire(rows: Rows, count: int) -> Rows:
  """Makes each row whose response has ended a row without a prompt."""
  ended = ~rows.live & (rows.step > 0)
  return rows.replace(prompt=jnp.where(ended, count, rows.prompt))


def _groups(policy: Policy, slots: int) -> int:
  """Number of groups of devices that share rows; 1 outside a mesh."""
  axes = dividing(policy.layout.batch_axes, slots)
  return axis_size(jax.sharding.get_abstract_mesh(), axes)


def _by_group(x: Array, groups: int) -> Array:
  return x.reshape(groups, x.shape[0] // groups, *x.shape[1:])


def _take(x: Array, chosen: Array) -> Array:
  """Takes rows of x [S, ...]; `chosen` [groups, A] counts within a group."""
  taken = jax.vmap(lambda x, at: x[at])(_by_group(x, len(chosen)), chosen)
  return taken.reshape(chosen.size, *x.shape[1:])


def _put(x: Array, chosen: Array, new: Array) -> Array:
  """Puts rows [groups * A, ...] where `_take` takes them, if they exist."""
  put = jax.vmap(lambda x, at, new: x.at[at].set(new, mode="drop"))
  parts, new = (_by_group(x, len(chosen)) for x in (x, new))
  return put(parts, chosen, new).reshape(x.shape)


def _like(flags: Array, x: Array) -> Array:
  return flags.reshape(-1, *(1,) * (x.ndim - 1))
