"""Advantages: pure functions of rewards, constants for any loss."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import zero_where_invalid
from jalign.types import Array


def leave_one_out_advantages(rewards: Array, valid: Array) -> Array:
  """Each sample's reward less the mean of the prompt's other samples.

  A_i = r_i - mean over j != i of r_j  =  n / (n - 1) (r_i - mean of r)

  The baseline doesn't depend on its sample, so it leaves the policy gradient
  unbiased; the mean over all n samples would shrink it by (n - 1) / n.

  Kool, van Hoof and Welling 2019, "Buy 4 REINFORCE Samples, Get a Baseline for
  Free!"; Ahmadian et al. 2024, arXiv:2402.14740.

  Args:
    rewards: [B, K] rewards of K samples a prompt; constants.
    valid: [B, K] bool, False where a prompt has fewer samples.

  Returns:
    [B, K] advantages, 0 where not valid and where a sample is alone.

  Raises:
    AssertionError: shapes differ.
  """
  valid, rewards = zero_where_invalid(valid, rewards)
  rewards = jax.lax.stop_gradient(rewards)
  size = valid.sum(-1, keepdims=True).astype(rewards.dtype)
  others = jnp.maximum(size - 1, 1)
  centred = rewards - rewards.sum(-1, keepdims=True) / jnp.maximum(size, 1)
  return jnp.where(valid & (size > 1), size / others * centred, 0)
