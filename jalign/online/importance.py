"""Truncated importance weights of tokens that another distribution drew.

A sampler with a temperature or a truncation doesn't draw from the policy. The
policy gradient of such samples is biased, unless each counts by how likely the
policy is to draw it.
"""

import jax
import jax.numpy as jnp

from jalign.errors import UserError
from jalign.losses._arrays import MAX_LOG_RATIO
from jalign.types import Array


def importance_weights(
  logps: Array,
  behaviour_logps: Array,
  mask: Array,
  *,
  cap: float,
  by_response: bool = False,
) -> Array:
  """min(pi / behaviour, cap) of tokens, or of whole responses.

  The weights of whole responses make the gradient unbiased, where nothing is
  capped and the sampler can draw whatever the policy can. The weights of single
  tokens vary less and leave a bias: they correct a token, and not the prefix
  that the token follows, nor what follows the token. For responses of one token
  both are the same. What a truncating sampler never draws has no weight.

  Ionides 2008, "Truncated Importance Sampling", for the cap.

  Args:
    logps: [R, T] log-probs of tokens under the policy that drew them.
    behaviour_logps: [R, T] log-probs of the same tokens under the distribution
      that they were drawn from.
    mask: [R, T] bool, True on sampled tokens.
    cap: the largest weight, > 0.
    by_response: whether the tokens of a response share the response's weight.

  Returns:
    [R, T] weights, constants; 1 where a token isn't sampled.

  Raises:
    UserError: the cap isn't positive.
  """
  if not cap > 0:
    raise UserError(f"{cap} must be > 0.", where="importance_cap")
  ratios = jnp.where(mask, logps - behaviour_logps, 0.0)
  if by_response:
    ratios = jnp.where(mask, jnp.sum(ratios, -1, keepdims=True), 0.0)
  weights = jnp.exp(jnp.minimum(ratios, MAX_LOG_RATIO))
  return jax.lax.stop_gradient(jnp.minimum(weights, cap))
