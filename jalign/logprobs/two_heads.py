"""KL and mixtures of two heads, in one pass over their common vocabulary.

Letters: N = B * T tokens, U columns of one tile.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jalign.errors import UserError
from jalign.logprobs import tiles
from jalign.logprobs.dense import by_chunks, logits
from jalign.logprobs.split import Tiling, first_id, mapped
from jalign.logprobs.tiles import Form
from jalign.types import Array, Head


class Static(NamedTuple):
  """The static (hashable) arguments of a pass over two heads."""

  form: Form
  ref_form: Form
  tiling: Tiling


def token_kl(
  hidden: Array,
  head: Head,
  ref_hidden: Array,
  ref_head: Head,
  *,
  tile: int | None = None,
) -> Array:
  """Exact KL(policy || reference) of each next-token distribution, streamed.

  Differentiable with respect to `hidden` and the weight of `head`; no gradient
  flows to the reference.

  Args:
    hidden: [B, T, D] states of the policy.
    head: the policy's head.
    ref_hidden: [B, T, D'] states of the reference, of any width.
    ref_head: the reference's head, of the same vocabulary.
    tile: vocabulary columns of one tile; None chooses by the number of tokens.

  Returns:
    [B, T] float32, nats.

  Raises:
    AssertionError: shapes differ.
    UserError: the vocabularies differ.
  """
  ref_hidden, ref_head = jax.lax.stop_gradient((ref_hidden, ref_head))
  static = prepared(hidden, head, ref_hidden, ref_head, tile)
  if static is not None:
    weights = head.weight, ref_head.weight
    return _kl(static, hidden, weights[0], ref_hidden, weights[1])

  def of_chunk(h, r):
    logps = jax.nn.log_softmax(logits(head, h))
    gap = logps - constant(ref_head, r)
    p = jnp.exp(logps)
    return jnp.sum(p * jnp.where(p > 0, gap, 0.0), -1)

  return by_chunks(head, of_chunk, hidden, ref_hidden)


def mixture_logprobs(
  hidden: Array,
  head: Head,
  ref_hidden: Array,
  ref_head: Head,
  targets: Array,
  mix_ref: float | Array,
  *,
  tile: int | None = None,
) -> Array:
  """Log-prob of each target under the geometric mixture, streamed.

  log m(v) = (1 - c) log pi(v) + c log pi_ref(v) - log Z, with c = mix_ref and
  Z the normaliser over the vocabulary. Nash-MD samples from m. The log-probs
  are differentiable with respect to `hidden` and the weight of `head`; no
  gradient flows to the reference or to `mix_ref`.

  Munos et al. 2023, "Nash Learning from Human Feedback", arXiv:2312.00886.

  Args:
    hidden: [B, T, D] states of the policy that predict the targets.
    head: the policy's head.
    ref_hidden: [B, T, D'] states of the reference, of any width.
    ref_head: the reference's head, of the same vocabulary.
    targets: [B, T] int32 token ids.
    mix_ref: weight of the reference; a number, [] or [B]; may be traced.
    tile: vocabulary columns of one tile; None chooses by the number of tokens.

  Returns:
    [B, T] float32, nats.

  Raises:
    AssertionError: shapes differ.
    UserError: the vocabularies differ.
  """
  chex.assert_rank(targets, 2)
  chex.assert_equal_shape_prefix([hidden, targets], 2)
  ref_hidden, ref_head = jax.lax.stop_gradient((ref_hidden, ref_head))
  mix = jax.lax.stop_gradient(jnp.asarray(mix_ref, jnp.float32))
  if mix.ndim:
    chex.assert_shape(mix, targets.shape[:1])
  mix = jnp.broadcast_to(mix.reshape(-1, 1), targets.shape)
  static = prepared(hidden, head, ref_hidden, ref_head, tile)
  if static is not None:
    weights = head.weight, ref_head.weight
    return _mixture(
      static, hidden, weights[0], ref_hidden, weights[1], targets, mix
    )

  def of_chunk(h, r, t, c):
    c = c[..., None]
    z = _share(1.0 - c, jax.nn.log_softmax(logits(head, h)))
    z = jax.nn.log_softmax(z + _share(c, constant(ref_head, r)))
    return jnp.take_along_axis(z, t[..., None], -1)[..., 0]

  return by_chunks(head, of_chunk, hidden, ref_hidden, targets, mix)


def prepared(hidden, head, ref_hidden, ref_head, tile):
  """Static arguments of the pass; None where a head isn't a matrix."""
  chex.assert_rank([hidden, ref_hidden], 3)
  chex.assert_equal_shape_prefix([hidden, ref_hidden], 2)
  columns = [
    jax.eval_shape(logits, h, x).shape[-1]
    for h, x in ((head, hidden), (ref_head, ref_hidden))
  ]
  if columns[0] != columns[1]:
    raise UserError(
      f"the policy's vocabulary has {columns[0]} tokens and the reference's"
      f" {columns[1]}.",
      where="ref_head",
      remedy="Choose models of one tokenizer, or pad the smaller vocabulary.",
    )
  if head.dense is not None or ref_head.dense is not None:
    return None
  # One tiling for both heads, so that a tile has the same tokens of both.
  tiling = tiles.tiling_of(hidden.shape[:2], tile, head, ref_head)
  return Static(tiles.form_of(head), tiles.form_of(ref_head), tiling)


def constant(head, hidden):
  """Log-probs without gradient, even by what a dense head closes over."""
  return jax.lax.stop_gradient(jax.nn.log_softmax(logits(head, hidden)))


def _share(weight, logps):
  """Weighted log-probs; with weight 0 they are 0, even where they are -inf."""
  return jnp.where(weight > 0, weight * logps, 0.0)


def flat(x):
  return x.reshape(-1, x.shape[-1])


def column(x):
  return x.reshape(-1, 1)


def both_logits(static, states, parts):
  """Logits [N, U] of a tile under both heads, and the policy's derivative."""
  z, slope = tiles.tile_logits(static.form, states[0], parts[0])
  r, _ = tiles.tile_logits(static.ref_form, states[1], parts[1])
  return z, r, slope


def _grow(top, total, z):
  """Adds a tile [N, U] to a running maximum and sum of exponentials.

  Also returns the tile's exponentials and the factor for earlier tiles' sums.
  """
  new = jnp.maximum(top, jnp.max(z, -1))
  shrink = jnp.exp(top - new)
  e = jnp.exp(z - new[:, None])
  return new, total * shrink + jnp.sum(e, -1), e, shrink


# ----------------------------------------------------------------------- KL


def kl_local(static, hidden, weight, ref_hidden, ref_weight):
  """[B, T] each: KL, the policy's lse less the reference's, and the former."""
  states = flat(hidden), flat(ref_hidden)
  axis = static.tiling.vocab_axis

  def body(carry, start, parts):
    top, total, gap, ref_top, ref_total = carry
    z, r, _ = both_logits(static, states, parts)
    top, total, e, shrink = _grow(top, total, z)
    gap = gap * shrink + jnp.sum(e * (z - r), -1)
    ref_top, ref_total, _, _ = _grow(ref_top, ref_total, r)
    return top, total, gap, ref_top, ref_total

  zeros = jnp.zeros(states[0].shape[0], jnp.float32)
  low = zeros - jnp.inf
  top, total, gap, ref_top, ref_total = tiles.scan_tiles(
    static.tiling,
    body,
    (low, zeros, zeros, low, zeros),
    states,
    (weight, ref_weight),
  )
  if axis is not None:
    tops = jax.lax.pmax((top, ref_top), axis)
    shrink, ref_shrink = jnp.exp(top - tops[0]), jnp.exp(ref_top - tops[1])
    total, gap, ref_total = jax.lax.psum(
      (total * shrink, gap * shrink, ref_total * ref_shrink), axis
    )
    top, ref_top = tops
  # In this order what both lse have in common cancels before it is rounded.
  apart = (top - ref_top) + jnp.log(total / ref_total)
  shape = hidden.shape[:2]
  kl, lse = gap / total - apart, top + jnp.log(total)
  return kl.reshape(shape), apart.reshape(shape), lse.reshape(shape)


def _kl_local_backward(
  static, hidden, weight, ref_hidden, ref_weight, kl, apart, lse, given
):
  states = flat(hidden), flat(ref_hidden)
  lse, given = column(lse), column(given)
  shift = column(apart) + column(kl)

  def body(sums, start, parts):
    z, r, slope = both_logits(static, states, parts)
    # d KL / d z = p (log p - log p_ref - KL)
    dz = given * jnp.exp(z - lse) * (z - r - shift)
    return tiles.add_gradients(
      static.tiling, sums, start, dz * slope, states[0], parts[0], weight.dtype
    )

  sums = tiles.scan_tiles(
    static.tiling,
    body,
    tiles.no_gradients(states[0], weight),
    states,
    (weight, ref_weight),
  )
  return tiles.total_gradients(static.tiling, sums, hidden, weight.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _kl(static, *arrays):
  return _kl_forward(static, *arrays)[0]


def _kl_forward(static, *arrays):
  local = functools.partial(kl_local, static)
  kl, apart, lse = mapped(static.tiling, local, "RWRW", "RRR")(*arrays)
  return kl, (*arrays, kl, apart, lse)


def _kl_backward(static, residuals, given):
  local = functools.partial(_kl_local_backward, static)
  run = mapped(static.tiling, local, "RWRWRRRR", "RW")
  return *run(*residuals, given), None, None


_kl.defvjp(_kl_forward, _kl_backward)


# ------------------------------------------------------------------ mixtures


def _mixture_local(
  static, hidden, weight, ref_hidden, ref_weight, targets, mix
):
  """Log-probs of the targets, and the mixture's lse, [B, T]."""
  states = flat(hidden), flat(ref_hidden)
  wanted, mix = targets.reshape(-1), column(mix)
  offset = first_id(static.tiling, weight)
  axis = static.tiling.vocab_axis

  def body(carry, start, parts):
    top, total, picked = carry
    z, r, _ = both_logits(static, states, parts)
    z = (1.0 - mix) * z + mix * r
    top, total, _, _ = _grow(top, total, z)
    return top, total, picked + tiles.picked_logits(z, wanted - offset - start)

  zeros = jnp.zeros(wanted.shape, jnp.float32)
  top, total, picked = tiles.scan_tiles(
    static.tiling,
    body,
    (zeros - jnp.inf, zeros, zeros),
    states,
    (weight, ref_weight),
  )
  if axis is not None:
    highest = jax.lax.pmax(top, axis)
    total, picked = jax.lax.psum((total * jnp.exp(top - highest), picked), axis)
    top = highest
  lse = top + jnp.log(total)
  return (picked - lse).reshape(targets.shape), lse.reshape(targets.shape)


def _mixture_local_backward(
  static, hidden, weight, ref_hidden, ref_weight, targets, mix, lse, given
):
  states = flat(hidden), flat(ref_hidden)
  wanted, mix, lse, given = map(column, (targets, mix, lse, given))
  offset = first_id(static.tiling, weight)

  def body(sums, start, parts):
    z, r, slope = both_logits(static, states, parts)
    q = jnp.exp((1.0 - mix) * z + mix * r - lse)
    ids = tiles.ids_of(offset + start, z)
    dz = given * (1.0 - mix) * ((ids == wanted).astype(jnp.float32) - q)
    return tiles.add_gradients(
      static.tiling, sums, start, dz * slope, states[0], parts[0], weight.dtype
    )

  sums = tiles.scan_tiles(
    static.tiling,
    body,
    tiles.no_gradients(states[0], weight),
    states,
    (weight, ref_weight),
  )
  return tiles.total_gradients(static.tiling, sums, hidden, weight.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mixture(static, *arrays):
  return _mixture_forward(static, *arrays)[0]


def _mixture_forward(static, *arrays):
  local = functools.partial(_mixture_local, static)
  logps, lse = mapped(static.tiling, local, "RWRWRR", "RR")(*arrays)
  return logps, (*arrays, lse)


def _mixture_backward(static, residuals, given):
  local = functools.partial(_mixture_local_backward, static)
  run = mapped(static.tiling, local, "RWRWRRRR", "RW")
  return *run(*residuals, given), None, None, None, None


_mixture.defvjp(_mixture_forward, _mixture_backward)
