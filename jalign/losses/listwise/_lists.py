"""What losses on lists share: arguments, orders, sums over what is valid."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, per_token, zero_where_invalid
from jalign.types import Array


def implicit_rewards(
  beta, logps: Array, ref_logps: Array, scores: Array, valid: Array
) -> tuple[Array, Array, Array]:
  """beta log pi/ref, scores and valid, [B, K]; only the first has gradients."""
  check_range("beta", beta, 0)
  valid, logps, ref_logps, scores = zero_where_invalid(
    valid, logps, ref_logps, scores
  )
  reward = beta * (logps - jax.lax.stop_gradient(ref_logps))
  return reward, jax.lax.stop_gradient(scores), valid


def averages(
  logps: Array, lengths: Array, scores: Array, valid: Array
) -> tuple[Array, Array, Array, Array]:
  """Log-probs per token and in sum, scores and valid, [B, K]."""
  valid, logps, lengths, scores = zero_where_invalid(
    valid, logps, lengths, scores
  )
  average = per_token(logps, lengths)
  return average, logps, jax.lax.stop_gradient(scores), valid


def differences(x: Array) -> Array:
  """[B, K, K] with x_i - x_j at i, j."""
  return x[..., :, None] - x[..., None, :]


def outranks(scores: Array, valid: Array) -> Array:
  """[B, K, K] bool: whether i and j are valid and i scores higher."""
  both = valid[..., :, None] & valid[..., None, :]
  return both & (scores[..., :, None] > scores[..., None, :])


def precedes(scores: Array, valid: Array) -> Array:
  """[B, K, K] bool: as `outranks`, and of equal scores the first precedes."""
  both = valid[..., :, None] & valid[..., None, :]
  equal = scores[..., :, None] == scores[..., None, :]
  earlier = jnp.triu(jnp.ones(equal.shape[-2:], bool), 1)
  return outranks(scores, valid) | (both & equal & earlier)


def sum_over_pairs(x: Array, pairs: Array) -> Array:
  """[B] sums of [B, K, K] over the pairs."""
  return jnp.where(pairs, x, 0).sum((-2, -1))


def log_softmax(x: Array, valid: Array) -> Array:
  """Log-softmax over the valid ones, 0 elsewhere and for an empty list."""
  logits = jnp.where(valid, x, -jnp.inf)
  logits = jnp.where(valid.any(-1, keepdims=True), logits, 0)  # else 0 / 0
  return jnp.where(valid, jax.nn.log_softmax(logits, -1), 0)


def picked_first(logits: Array, left: Array) -> Array:
  """-log softmax of each row's diagonal among itself and the row's rest.

  Args:
    logits: [B, K, K].
    left: [B, K, K] bool, what is left when row k picks k.

  Returns:
    [B, K], 0 where nothing is left.
  """
  own = jnp.diagonal(logits, axis1=-2, axis2=-1)[..., None]
  choices = left | jnp.eye(logits.shape[-1], dtype=bool)
  return jax.nn.logsumexp(jnp.where(choices, logits - own, -jnp.inf), -1)
