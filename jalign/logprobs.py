"""From hidden states to log-probs, a tile of the vocabulary at a time.

The [B, T, V] logits never exist: the forward pass scans tiles of the output
embedding and keeps a running maximum, sum of exponentials and target logit;
the backward pass computes each tile again. Under a mesh every device streams
its own part of the vocabulary, and only [B, T] statistics cross devices.

Letters: N = B * T tokens, U columns of one tile.
"""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jalign.sharding import axis_size
from jalign.types import Array, Head, Model, Params, Sequences

# One tile of float32 logits; large enough for the matrix units, small enough
# for the last-level cache of a CPU and a rounding error of a device's memory.
TILE_BYTES = 32 * 2**20


class TokenStatistics(NamedTuple):
  """What one pass over the vocabulary gives.

  Attributes:
    logps: [B, T] float32 log-prob of each target, nats.
    entropy: [B, T] float32 entropy of the next-token distribution, nats.
  """

  logps: Array
  entropy: Array


class _Static(NamedTuple):
  """The hashable part of a streamed computation."""

  scale: float
  soft_cap: float | None
  tile: int
  entropy: bool
  vocab_axis: Any  # mesh axis names, None where not split
  batch_axes: Any


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
  raw = jnp.einsum(
    "...D,VD->...V",
    hidden,
    head.weight.astype(hidden.dtype),  # type: ignore[union-attr]
    preferred_element_type=jnp.float32,
  )
  return _cap(raw * head.scale, head.soft_cap)


def token_logprobs(
  hidden: Array, head: Head, targets: Array, *, tile: int | None = None
) -> Array:
  """Log-prob of each target token, streamed over the vocabulary.

  Differentiable with respect to `hidden` and the head's weight.

  Args:
    hidden: [B, T, D] states that predict the targets.
    head: the model's head.
    targets: [B, T] int32 token ids.
    tile: vocabulary columns of one tile; by default what makes 32 MiB.

  Returns:
    [B, T] float32, nats.
  """
  return _statistics(hidden, head, targets, tile, entropy=False).logps


def token_statistics(
  hidden: Array, head: Head, targets: Array, *, tile: int | None = None
) -> TokenStatistics:
  """As `token_logprobs`, with the entropy out of the same pass.

  Both are differentiable.

  Args:
    hidden: [B, T, D] states that predict the targets.
    head: the model's head.
    targets: [B, T] int32 token ids.
    tile: vocabulary columns of one tile; by default what makes 32 MiB.

  Returns:
    TokenStatistics of [B, T] float32, nats.
  """
  return _statistics(hidden, head, targets, tile, entropy=True)


def sequence_logprobs(
  model: Model, params: Params, sequences: Sequences
) -> Array:
  """Sum of the scored tokens' log-probs; one executable for any params.

  Args:
    model: the model's functions.
    params: its parameters: the policy's or the reference's.
    sequences: B right-padded rows.

  Returns:
    [B] float32, nats; 0 for a row without scored tokens.
  """
  hidden = model.forward(params, sequences.tokens)[:, :-1]
  logps = token_logprobs(hidden, model.head(params), sequences.tokens[:, 1:])
  return jnp.sum(jnp.where(sequences.mask[:, 1:], logps, 0.0), -1)


def _cap(z, soft_cap):
  return z if soft_cap is None else soft_cap * jnp.tanh(z / soft_cap)


def _statistics(hidden, head, targets, tile, *, entropy):
  chex.assert_rank([hidden, targets], [3, 2])
  chex.assert_equal_shape_prefix([hidden, targets], 2)
  if head.dense is not None:
    return _dense_statistics(head.dense, hidden, targets, entropy)
  mesh = jax.sharding.get_abstract_mesh()
  split = lambda axes: 1 if mesh.empty else axis_size(mesh, axes)
  batch, columns = hidden.shape[0], head.weight.shape[0]
  vocab_axis, batch_axes = head.vocab_axis, head.batch_axes
  if split(vocab_axis) == 1:
    vocab_axis = None
  if split(batch_axes) == 1 or batch % split(batch_axes):
    batch_axes = None  # a batch that doesn't divide is computed everywhere
  columns //= split(vocab_axis)
  if tile is None:
    rows = max(batch // split(batch_axes) * hidden.shape[1], 1)
    tile = max(TILE_BYTES // (4 * rows) // 128 * 128, 128)
  static = _Static(
    head.scale,
    head.soft_cap,
    min(tile, columns),
    entropy,
    vocab_axis,
    batch_axes,
  )
  return TokenStatistics(*_stream(static, hidden, head.weight, targets))


def _dense_statistics(dense, hidden, targets, entropy):
  """The same for a head that isn't a matrix: chunks of tokens, recomputed."""
  chunk = max(1, min(hidden.shape[1], 4096 // max(hidden.shape[0], 1)))
  pad = -hidden.shape[1] % chunk
  split = lambda x: jnp.moveaxis(
    jnp.pad(x, [(0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 2)).reshape(
      x.shape[0], -1, chunk, *x.shape[2:]
    ),
    1,
    0,
  )

  @jax.checkpoint
  def one(args):
    logps = jax.nn.log_softmax(dense(args[0]).astype(jnp.float32))
    picked = jnp.take_along_axis(logps, args[1][..., None], -1)[..., 0]
    if not entropy:
      return picked, jnp.zeros_like(picked)
    return picked, -jnp.sum(jnp.exp(logps) * logps, -1)

  join = lambda x: jnp.moveaxis(x, 0, 1).reshape(targets.shape[0], -1)
  picked, entropies = jax.lax.map(one, (split(hidden), split(targets)))
  length = targets.shape[1]
  return TokenStatistics(join(picked)[:, :length], join(entropies)[:, :length])


# --------------------------------------------------------------- the stream


def _tiles(static, weight):
  """First row of each tile, and where its new rows begin.

  The last tile overlaps the one before it rather than padding the weight.
  """
  columns = weight.shape[0]
  begins = jnp.arange(0, columns, static.tile, dtype=jnp.int32)
  return jnp.minimum(begins, columns - static.tile), begins


def _tile_logits(static, hidden, weight, offset, bounds):
  """Logits [N, U], token ids [U] and weights [U, D] of one tile.

  Rows that the tile before it held have logit -inf and id -1.
  """
  start, begin = bounds
  part = jax.lax.dynamic_slice_in_dim(weight, start, static.tile)
  part = part.astype(hidden.dtype)
  raw = jnp.einsum(
    "ND,UD->NU", hidden, part, preferred_element_type=jnp.float32
  )
  z = _cap(raw * static.scale, static.soft_cap)
  rows = start + jnp.arange(static.tile, dtype=jnp.int32)
  new = rows >= begin
  return jnp.where(new, z, -jnp.inf), jnp.where(new, offset + rows, -1), part


def _local_forward(static, hidden, weight, targets):
  """Scan over the local vocabulary, then combine over the devices' parts."""
  shape = targets.shape
  hidden = hidden.reshape(-1, hidden.shape[-1])
  flat = targets.reshape(-1)
  offset = jnp.int32(0)
  if static.vocab_axis is not None:
    offset = jax.lax.axis_index(static.vocab_axis) * weight.shape[0]

  def body(carry, bounds):
    top, total, picked, mean = carry
    z, ids, _ = _tile_logits(static, hidden, weight, offset, bounds)
    new_top = jnp.maximum(top, jnp.max(z, -1))
    shrink = jnp.exp(top - new_top)
    e = jnp.exp(z - new_top[:, None])
    total = total * shrink + jnp.sum(e, -1)
    picked += jnp.sum(jnp.where(ids == flat[:, None], z, 0.0), -1)
    if static.entropy:
      mean = mean * shrink + jnp.sum(jnp.where(e > 0, e * z, 0.0), -1)
    return (new_top, total, picked, mean), None

  zeros = jnp.zeros(flat.shape, jnp.float32)
  (top, total, picked, mean), _ = jax.lax.scan(
    body, (zeros - jnp.inf, zeros, zeros, zeros), _tiles(static, weight)
  )
  if static.vocab_axis is not None:
    highest = jax.lax.pmax(top, static.vocab_axis)
    shrink = jnp.exp(top - highest)
    total, picked, mean = jax.lax.psum(
      (total * shrink, picked, mean * shrink), static.vocab_axis
    )
    top = highest
  lse = top + jnp.log(total)
  entropy = lse - mean / total if static.entropy else zeros
  return tuple(x.reshape(shape) for x in (picked - lse, entropy, lse))


def _local_backward(
  static, hidden, weight, targets, lse, entropy, g_logp, g_ent
):
  """Gradients to the local hidden states and the local part of the weight."""
  shape = hidden.shape
  hidden = hidden.reshape(-1, shape[-1])
  flat, lse, entropy, g_logp, g_ent = (
    x.reshape(-1, 1) for x in (targets, lse, entropy, g_logp, g_ent)
  )
  offset = jnp.int32(0)
  if static.vocab_axis is not None:
    offset = jax.lax.axis_index(static.vocab_axis) * weight.shape[0]

  def body(carry, bounds):
    d_hidden, d_weight = carry
    z, ids, part = _tile_logits(static, hidden, weight, offset, bounds)
    p = jnp.exp(z - lse)
    dz = g_logp * ((ids == flat).astype(jnp.float32) - p)
    if static.entropy:
      # dH / dz = -p (log p + H)
      dz -= g_ent * jnp.where(p > 0, p * (z - lse + entropy), 0.0)
    if static.soft_cap is not None:
      dz *= 1.0 - jnp.square(jnp.where(p > 0, z, 0.0) / static.soft_cap)
    dz = jnp.where(ids >= 0, dz * static.scale, 0.0).astype(hidden.dtype)
    dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    d_hidden += dot("NU,UD->ND", dz, part)
    # A tile's gradient is complete here: tokens are never split.
    d_part = dot("NU,ND->UD", dz, hidden).astype(weight.dtype)
    old = jax.lax.dynamic_slice_in_dim(d_weight, bounds[0], static.tile)
    d_weight = jax.lax.dynamic_update_slice_in_dim(
      d_weight, old + d_part, bounds[0], 0
    )
    return (d_hidden, d_weight), None

  start = (jnp.zeros(hidden.shape, jnp.float32), jnp.zeros_like(weight))
  (d_hidden, d_weight), _ = jax.lax.scan(body, start, _tiles(static, weight))
  if static.vocab_axis is not None:
    d_hidden = jax.lax.psum(d_hidden, static.vocab_axis)
  if static.batch_axes is not None:
    d_weight = jax.lax.psum(d_weight, static.batch_axes)
  return d_hidden.astype(hidden.dtype).reshape(shape), d_weight


def _mapped(static, function, kinds, out_kinds):
  """`function` on each device's part; itself where nothing is split."""
  if static.vocab_axis is None and static.batch_axes is None:
    return function
  spec = {
    "weight": PartitionSpec(static.vocab_axis),
    "rows": PartitionSpec(static.batch_axes),
  }
  return jax.shard_map(
    function,
    in_specs=tuple(spec[kind] for kind in kinds),
    out_specs=tuple(spec[kind] for kind in out_kinds),
    check_vma=False,  # the scan's zeros would have to be marked as varying
  )


def _forward(static, hidden, weight, targets):
  run = _mapped(
    static,
    functools.partial(_local_forward, static),
    ("rows", "weight", "rows"),
    ("rows", "rows", "rows"),
  )
  return run(hidden, weight, targets)


# The vjp stands outside the shard_map: nothing differentiates through it.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _stream(static, hidden, weight, targets):
  return _forward(static, hidden, weight, targets)[:2]


def _stream_forward(static, hidden, weight, targets):
  logps, entropy, lse = _forward(static, hidden, weight, targets)
  return (logps, entropy), (hidden, weight, targets, lse, entropy)


def _stream_backward(static, residuals, cotangents):
  run = _mapped(
    static,
    functools.partial(_local_backward, static),
    ("rows", "weight") + ("rows",) * 5,
    ("rows", "weight"),
  )
  return *run(*residuals, *cotangents), None


_stream.defvjp(_stream_forward, _stream_backward)
