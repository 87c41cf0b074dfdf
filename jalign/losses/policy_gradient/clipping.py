"""The importance ratio and PPO's pessimistic clipping."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import MAX_LOG_RATIO, at_most
from jalign.types import Array


def importance_ratio(logps: Array, old_logps: Array) -> Array:
  """pi / old, where old has drawn the samples; at most exp(60).

  A ratio at that bound has no gradient.
  """
  return jnp.exp(
    at_most(logps - jax.lax.stop_gradient(old_logps), MAX_LOG_RATIO)
  )


def pessimistic(ratio: Array, advantages: Array, clip: float) -> Array:
  """min(ratio A, clipped ratio A): leaving the range gains nothing."""
  advantages = jax.lax.stop_gradient(advantages)
  clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
  return jnp.minimum(ratio * advantages, clipped * advantages)
