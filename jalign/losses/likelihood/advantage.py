"""Advantage-leftover-lunch (A-LoL): likelihoods weighted by offline rewards."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import (
  check_range,
  floats_with_axes,
  same_floats,
  where_scored,
)
from jalign.types import Array


def _weight(logps: Array, ref_logps: Array, clip: float) -> Array:
  """min(max(pi / ref, 1 - clip), 1 + clip), a constant."""
  ratio = jax.lax.stop_gradient(logps - ref_logps)
  return jnp.exp(jnp.clip(ratio, jnp.log1p(-clip), jnp.log1p(clip)))


def _kept_advantage(rewards: Array, values: Array) -> Array:
  """max(R - V, 0), a constant."""
  return jax.lax.stop_gradient(jax.nn.relu(rewards - values))


def a_lol(
  logps: Array,
  ref_logps: Array,
  rewards: Array,
  values: Array,
  *,
  clip: float = 0.9,
) -> Array:
  """A-LoL: likelihood weighted by a positive advantage and importance ratio.

  l = -max(R - V, 0) w log pi(y),
  w = min(max(pi(y) / ref(y), 1 - clip), 1 + clip)

  R - V is the advantage over the reference's expected reward V; examples whose
  advantage isn't positive have loss 0. w is a constant. The log-ratio is
  clipped before the exponential, so that no sequence's ratio underflows.

  Baheti et al. 2023, "Leftover-Lunch: Advantage-based Offline Reinforcement
  Learning for Language Models", arXiv:2305.14718.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    ref_logps: [B] logps under the reference; a constant.
    rewards: [B] R, rewards of the responses; a constant.
    values: [B] V, the reference's expected reward for the prompt; a constant.
    clip: half-width of the clipping range, in [0, 1).

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("clip", clip, 0, 1, ends="[)")
  logps, ref_logps, rewards, values = same_floats(
    logps, ref_logps, rewards, values
  )
  advantage = _kept_advantage(rewards, values)
  return -advantage * _weight(logps, ref_logps, clip) * logps


def a_lol_ref_free(logps: Array, rewards: Array, values: Array) -> Array:
  """A-LoL without the importance ratio.

  l = -max(R - V, 0) log pi(y)

  This is `a_lol` with clip = 0, or where the policy equals the reference.

  Baheti et al. 2023, "Leftover-Lunch: Advantage-based Offline Reinforcement
  Learning for Language Models", arXiv:2305.14718.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    rewards: [B] R, rewards of the responses; a constant.
    values: [B] V, the reference's expected reward for the prompt; a constant.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  logps, rewards, values = same_floats(logps, rewards, values)
  return -_kept_advantage(rewards, values) * logps


def a_lol_kl(
  logps: Array,
  ref_logps: Array,
  rewards: Array,
  values: Array,
  *,
  beta: float = 0.1,
) -> Array:
  """A-LoL kept near the reference by a log-ratio term instead of a clip.

  l = -max(R - V, 0) log pi(y) + beta log(pi(y) / ref(y))

  The second term also lowers the log-prob of responses without an advantage.
  Its gradient is beta times the gradient of log pi(y).

  Baheti et al. 2023, "Leftover-Lunch: Advantage-based Offline Reinforcement
  Learning for Language Models", arXiv:2305.14718.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    ref_logps: [B] logps under the reference; a constant.
    rewards: [B] R, rewards of the responses; a constant.
    values: [B] V, the reference's expected reward for the prompt; a constant.
    beta: weight of the log-ratio, >= 0; the default is our choice.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0, ends="[)")
  logps, ref_logps, rewards, values = same_floats(
    logps, ref_logps, rewards, values
  )
  advantage = _kept_advantage(rewards, values)
  ratio = logps - jax.lax.stop_gradient(ref_logps)
  return beta * ratio - advantage * logps


def r_lol(
  logps: Array, ref_logps: Array, rewards: Array, *, clip: float = 0.9
) -> Array:
  """A-LoL with the reward in place of the advantage.

  l = -R w log pi(y),  w = min(max(pi(y) / ref(y), 1 - clip), 1 + clip)

  The loss lowers the log-prob of responses of negative reward. w is a constant;
  the log-ratio is clipped before the exponential.

  Baheti et al. 2023, "Leftover-Lunch: Advantage-based Offline Reinforcement
  Learning for Language Models", arXiv:2305.14718.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    ref_logps: [B] logps under the reference; a constant.
    rewards: [B] R, rewards of the responses; a constant.
    clip: half-width of the clipping range, in [0, 1).

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("clip", clip, 0, 1, ends="[)")
  logps, ref_logps, rewards = same_floats(logps, ref_logps, rewards)
  rewards = jax.lax.stop_gradient(rewards)
  return -rewards * _weight(logps, ref_logps, clip) * logps


def a_lol_seq(
  token_logps: Array,
  ref_token_logps: Array,
  rewards: Array,
  values: Array,
  mask: Array,
  *,
  clip: float = 0.9,
) -> Array:
  """A-LoL with an importance ratio for each token.

  l = -max(R - V, 0) sum_t w_t log pi(y_t),
  w_t = min(max(pi(y_t) / ref(y_t), 1 - clip), 1 + clip)

  w_t is a constant; the log-ratio is clipped before the exponential. A response
  without scored tokens has loss 0. The loss is a sum over tokens, and a batch's
  sum is divided by examples, as for `a_lol`.

  Baheti et al. 2023, "Leftover-Lunch: Advantage-based Offline Reinforcement
  Learning for Language Models", arXiv:2305.14718.

  Args:
    token_logps: [B, T] log-probs (nats) of the response's tokens.
    ref_token_logps: [B, T] token_logps under the reference; a constant.
    rewards: [B] R, rewards of the responses; a constant.
    values: [B] V, the reference's expected reward for the prompt; a constant.
    mask: [B, T] bool, True on scored tokens.
    clip: half-width of the clipping range, in [0, 1).

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("clip", clip, 0, 1, ends="[)")
  token_logps, ref_token_logps, rewards, values, mask = floats_with_axes(
    "BT BT B B BT", token_logps, ref_token_logps, rewards, values, mask
  )
  logps, ref_logps = where_scored(mask, token_logps, ref_token_logps)
  total = (_weight(logps, ref_logps, clip) * logps).sum(-1)
  return -_kept_advantage(rewards, values) * total
