"""Estimators of KL(policy || reference) from the policy's own samples.

With x = log(pi(y) / ref(y)) and y from pi, of a token or of a sequence:

  k1 = x                  unbiased; E of its gradient is 0
  k2 = x^2 / 2            biased; E of its gradient is that of the KL
  k3 = exp(-x) - 1 + x    unbiased, never negative; E of its gradient is that of
                          KL(ref || pi), the other way around

The gradients are those of the values here, with the samples held fixed: what a
loss gets that adds the estimator. As a part of the reward, which is a constant,
k1 gives the KL's gradient. Of tokens, an estimator's sum over a sequence has
that token's KL given its prefix as its expectation; its gradient misses what
the token does to the later ones.

k1, k2, k3 are the names of a note of J. Schulman's (2020), which has no arXiv
id. The reference is a constant.
"""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import MAX_LOG_RATIO, at_most, equal_floats
from jalign.types import Array


def _log_ratio(logps: Array, ref_logps: Array) -> Array:
  logps, ref_logps = equal_floats(logps, ref_logps)
  return logps - jax.lax.stop_gradient(ref_logps)


def k1(logps: Array, ref_logps: Array) -> Array:
  """log(pi / ref), of any shape; may be negative."""
  return _log_ratio(logps, ref_logps)


def k2(logps: Array, ref_logps: Array) -> Array:
  """log(pi / ref)^2 / 2, of any shape."""
  return _log_ratio(logps, ref_logps) ** 2 / 2


def k3(logps: Array, ref_logps: Array) -> Array:
  """ref / pi - 1 - log(ref / pi), of any shape.

  log(ref / pi) counts as at most 60, without gradient there.
  """
  gap = at_most(-_log_ratio(logps, ref_logps), MAX_LOG_RATIO)
  return jnp.expm1(gap) - gap
