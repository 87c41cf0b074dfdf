"""Proximal policy optimisation: losses of the policy and the value function."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import (
  check_range,
  floats_with_axes,
  where_scored,
)
from jalign.losses.policy_gradient.clipping import (
  importance_ratio,
  pessimistic,
)
from jalign.types import Array


def ppo_clip(
  token_logps: Array,
  old_token_logps: Array,
  advantages: Array,
  mask: Array,
  *,
  clip: float = 0.2,
) -> Array:
  """PPO's clipped objective, token by token.

  l = -sum_t min(u_t A_t, min(max(u_t, 1 - clip), 1 + clip) A_t),
  u_t = pi(y_t) / old(y_t)

  `old` is the policy that has drawn the responses. A batch's sum is divided by
  scored tokens. At the old policy the gradient is that of `reinforce`. log u
  counts as at most 60, and has no gradient above 60.

  Schulman et al. 2017, "Proximal Policy Optimization Algorithms",
  arXiv:1707.06347, eq. 7.

  Args:
    token_logps: [B, T] log-probs (nats) of the response's tokens.
    old_token_logps: [B, T] token_logps at the time of sampling; a constant.
    advantages: [B, T] advantages of the tokens; a constant.
    mask: [B, T] bool, True on scored tokens.
    clip: half-width of the clipping range, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("clip", clip, 0)
  token_logps, old_token_logps, advantages, mask = floats_with_axes(
    "BT BT BT BT", token_logps, old_token_logps, advantages, mask
  )
  logps, old_logps, advantages = where_scored(
    mask, token_logps, old_token_logps, advantages
  )
  ratio = importance_ratio(logps, old_logps)
  return -pessimistic(ratio, advantages, clip).sum(-1)


def value_clip(
  token_values: Array,
  old_token_values: Array,
  returns: Array,
  mask: Array,
  *,
  clip: float = 0.2,
) -> Array:
  """PPO's loss of the value function: leaving the old values gains nothing.

  l = sum_t max((V_t - R_t)^2, (W_t - R_t)^2) / 2,
  W_t = min(max(V_t, old_t - clip), old_t + clip)

  A batch's sum is divided by scored tokens.

  Zheng et al. 2023, "Secrets of RLHF in Large Language Models Part I: PPO",
  arXiv:2307.04964.

  Args:
    token_values: [B, T] V, the value function before each token.
    old_token_values: [B, T] token_values at the time of sampling; a constant.
    returns: [B, T] R, targets of the value function; a constant.
    mask: [B, T] bool, True on scored tokens.
    clip: half-width of the clipping range, in the rewards' units, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("clip", clip, 0)
  token_values, old_token_values, returns, mask = floats_with_axes(
    "BT BT BT BT", token_values, old_token_values, returns, mask
  )
  values, old_values, targets = where_scored(
    mask, token_values, old_token_values, returns
  )
  old_values, targets = jax.lax.stop_gradient((old_values, targets))
  clipped = jnp.clip(values, old_values - clip, old_values + clip)
  worse = jnp.maximum((values - targets) ** 2, (clipped - targets) ** 2)
  return worse.sum(-1) / 2
