"""KL from a fixed reference to a policy, whole or of the likeliest classes.

`two_heads.token_kl` is the KL of the policy to the reference. Here the
reference comes first, so that the policy learns to cover whatever the reference
may say.
"""

import functools

import jax
import jax.numpy as jnp

from jalign.logprobs import tiles
from jalign.logprobs.dense import by_chunks, logits
from jalign.logprobs.split import mapped
from jalign.logprobs.two_heads import (
  both_logits,
  column,
  constant,
  flat,
  kl_local,
  prepared,
)
from jalign.types import Array, Head

_NOTHING = -1e30  # log-prob of no class; finite, for the sake of gradients


def token_forward_kl(
  hidden: Array,
  head: Head,
  ref_hidden: Array,
  ref_head: Head,
  *,
  tile: int | None = None,
) -> Array:
  """Exact KL(reference || policy) of each next-token distribution, streamed.

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
    logps = constant(ref_head, r)
    gap = logps - jax.nn.log_softmax(logits(head, h))
    p = jnp.exp(logps)
    return jnp.sum(p * jnp.where(p > 0, gap, 0.0), -1)

  return by_chunks(head, of_chunk, hidden, ref_hidden)


def top_logprobs(
  hidden: Array, head: Head, ref_hidden: Array, ref_head: Head, count: int
) -> tuple[Array, Array]:
  """Log-probs of a reference's likeliest classes, and of all others together.

  Differentiable with respect to `hidden` and the weight of `head`; no gradient
  flows to the reference. The logits of a chunk of tokens exist at a time.

  Args:
    hidden: [B, T, D] states of the policy.
    head: the policy's head.
    ref_hidden: [B, T, D'] states of the reference, of any width.
    ref_head: the reference's head, of the same vocabulary.
    count: number of classes, one or more; all of a smaller vocabulary.

  Returns:
    (the policy's log-probs, the reference's), [B, T, C] float32, nats. The
    reference's likeliest class comes first. The last of the C = count + 1
    columns is the log-prob of all other classes together: -1e30 if there is no
    other class.

  Raises:
    AssertionError: shapes differ.
    UserError: the vocabularies differ.
  """
  ref_hidden, ref_head = jax.lax.stop_gradient((ref_hidden, ref_head))
  prepared(hidden, head, ref_hidden, ref_head, None)
  count = min(count, jax.eval_shape(logits, head, hidden).shape[-1])

  def of_chunk(h, r):
    both = jax.nn.log_softmax(logits(head, h)), constant(ref_head, r)
    _, ids = jax.lax.top_k(both[1], count)
    put = functools.partial(jnp.put_along_axis, axis=-1, inplace=False)
    taken = put(jnp.zeros(both[0].shape, bool), ids, True)

    def classes(logps):
      rest = jax.nn.logsumexp(jnp.where(taken, _NOTHING, logps), -1)
      rest = jnp.maximum(rest, _NOTHING)
      top = jnp.take_along_axis(logps, ids, -1)
      return jnp.concatenate([top, rest[..., None]], -1)

    return tuple(map(classes, both))

  return by_chunks(head, of_chunk, hidden, ref_hidden)


def _local(static, hidden, weight, ref_hidden, ref_weight):
  """[B, T] each: KL, the policy's lse and the reference's."""
  turned = static._replace(form=static.ref_form, ref_form=static.form)
  kl, apart, ref_lse = kl_local(turned, ref_hidden, ref_weight, hidden, weight)
  return kl, ref_lse - apart, ref_lse


def _local_backward(
  static, hidden, weight, ref_hidden, ref_weight, lse, ref_lse, given
):
  states = flat(hidden), flat(ref_hidden)
  lse, ref_lse, given = map(column, (lse, ref_lse, given))

  def body(sums, start, parts):
    z, r, slope = both_logits(static, states, parts)
    # d KL / d z = p - p_ref
    dz = given * (jnp.exp(z - lse) - jnp.exp(r - ref_lse))
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
  return _forward(static, *arrays)[0]


def _forward(static, *arrays):
  local = functools.partial(_local, static)
  kl, lse, ref_lse = mapped(static.tiling, local, "RWRW", "RRR")(*arrays)
  return kl, (*arrays, lse, ref_lse)


def _backward(static, residuals, given):
  local = functools.partial(_local_backward, static)
  run = mapped(static.tiling, local, "RWRWRRR", "RW")
  return *run(*residuals, given), None, None


_kl.defvjp(_forward, _backward)
