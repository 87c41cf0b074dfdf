"""Functions that losses on lists share: arguments, orders, masked sums."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, per_token, zero_where_invalid
from jalign.types import Array


def implicit_rewards(
  beta, logps: Array, ref_logps: Array, scores: Array, valid: Array
) -> tuple[Array, Array, Array]:
  """[B, K] each: beta log pi/ref, scores, valid; scores are constants."""
  check_range("beta", beta, 0)
  valid, logps, ref_logps, scores = zero_where_invalid(
    valid, logps, ref_logps, scores
  )
  reward = beta * (logps - jax.lax.stop_gradient(ref_logps))
  return reward, jax.lax.stop_gradient(scores), valid


def averages(
  logps: Array, lengths: Array, scores: Array, valid: Array
) -> tuple[Array, Array, Array, Array]:
  """[B, K] each: log-probs per token, summed log-probs, scores, valid."""
  valid, logps, lengths, scores = zero_where_invalid(
    valid, logps, lengths, scores
  )
  average = per_token(logps, lengths)
  return average, logps, jax.lax.stop_gradient(scores), valid


def differences(x: Array) -> Array:
  """Differences [B, K, K] of x [B, K], with x_i - x_j at i, j."""
  return x[..., :, None] - x[..., None, :]


def outranks(scores: Array, valid: Array) -> Array:
  """[B, K, K] bool: whether i and j are valid and i has the higher score."""
  both = valid[..., :, None] & valid[..., None, :]
  return both & (scores[..., :, None] > scores[..., None, :])


def precedes(scores: Array, valid: Array) -> Array:
  """[B, K, K] bool: as `outranks`; among equal scores the first precedes."""
  both = valid[..., :, None] & valid[..., None, :]
  equal = scores[..., :, None] == scores[..., None, :]
  earlier = jnp.triu(jnp.ones(equal.shape[-2:], bool), 1)
  return outranks(scores, valid) | (both & equal & earlier)


def sum_over_pairs(x: Array, pairs: Array) -> Array:
  """[B] sums of x [B, K, K] over the pairs i, j that are True in `pairs`."""
  return jnp.where(pairs, x, 0).sum((-2, -1))


def log_softmax(x: Array, valid: Array) -> Array:
  """Log-softmax over the valid responses; 0 for all others."""
  logits = jnp.where(valid, x, -jnp.inf)
  logits = jnp.where(valid.any(-1, keepdims=True), logits, 0)  # else 0 / 0
  return jnp.where(valid, jax.nn.log_softmax(logits, -1), 0)


def picked_first(logits: Array, left: Array) -> Array:
  """-log of the probability that row k picks k among k and what is left.

  Args:
    logits: [B, K, K]; row k has the logits of its choices.
    left: [B, K, K] bool; row k is True on the other choices that are left when
      k is picked.

  Returns:
    [B, K], 0 where no other choice is left.
  """
  own = jnp.diagonal(logits, axis1=-2, axis2=-1)[..., None]
  choices = left | jnp.eye(logits.shape[-1], dtype=bool)
  return jax.nn.logsumexp(jnp.where(choices, logits - own, -jnp.inf), -1)
