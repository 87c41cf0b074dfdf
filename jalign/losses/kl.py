"""Estimators of KL(policy || reference) from the policy's own samples.

With x = log(pi(y) / ref(y)), where y is a token or a sequence drawn from pi:

  k1 = x                  unbiased; its expected gradient is 0
  k2 = x^2 / 2            biased; its expected gradient is the KL's gradient
  k3 = exp(-x) - 1 + x    unbiased, never negative; its expected gradient is the
                          gradient of KL(ref || pi), the other direction

The gradients are of the values, with the samples held fixed: they are what a
loss gets to which an estimator is added. As a part of the reward, which is a
constant, k1 gives the gradient of the KL. Where y is a token, the sum of k1 or
k3 over a sequence has the sequence's KL as its expectation, but its gradient
misses how a token changes the distribution of later tokens.

The names k1, k2 and k3 are from a note by J. Schulman (2020), which has no
arXiv id. The reference is a constant.
"""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import MAX_LOG_RATIO, at_most, equal_floats
from jalign.types import Array


def _log_ratio(logps: Array, ref_logps: Array) -> Array:
  logps, ref_logps = equal_floats(logps, ref_logps)
  return logps - jax.lax.stop_gradient(ref_logps)


def k1(logps: Array, ref_logps: Array) -> Array:
  """log(pi / ref), for log-probs (nats) of any one shape; may be negative."""
  return _log_ratio(logps, ref_logps)


def k2(logps: Array, ref_logps: Array) -> Array:
  """log(pi / ref)^2 / 2, for log-probs (nats) of any one shape."""
  return _log_ratio(logps, ref_logps) ** 2 / 2


def k3(logps: Array, ref_logps: Array) -> Array:
  """ref / pi - 1 - log(ref / pi), for log-probs (nats) of any one shape.

  log(ref / pi) counts as at most 60, and has no gradient above 60.
  """
  gap = at_most(-_log_ratio(logps, ref_logps), MAX_LOG_RATIO)
  return jnp.expm1(gap) - gap
