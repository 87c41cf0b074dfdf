"""From rewards to advantages: baselines, returns, credit over tokens.

All are pure functions of arrays, and no gradient flows through any of them.
Tokens where the mask is False are skipped, whatever values they hold.
"""

import chex
import jax
import jax.numpy as jnp

from jalign.losses import kl
from jalign.losses._arrays import (
  check_range,
  equal_floats,
  floats_with_axes,
  where_scored,
  zero_where_invalid,
)
from jalign.types import Array


def token_rewards(
  token_logps: Array,
  ref_token_logps: Array,
  rewards: Array,
  mask: Array,
  *,
  beta: float = 0.02,
) -> Array:
  """Puts a response's reward on its last token and a KL penalty on each token.

  r_t = -beta log(pi(y_t) / ref(y_t)) + [t is the last scored token] r

  The token rewards sum to r - beta log(pi(y) / ref(y)). The penalty may be
  negative; public code that clamps it at 0 is biased. The reward of a response
  without scored tokens is lost.

  Zheng et al. 2023, "Secrets of RLHF in Large Language Models Part I: PPO",
  arXiv:2307.04964.

  Args:
    token_logps: [B, T] log-probs (nats) under the policy that has sampled the
      responses.
    ref_token_logps: [B, T] token_logps under the reference.
    rewards: [B] rewards of the responses.
    mask: [B, T] bool, True on scored tokens.
    beta: weight of the penalty, >= 0.

  Returns:
    [B, T] rewards, 0 where a token isn't scored.

  Raises:
    AssertionError: shapes differ.
    UserError: beta is negative.
  """
  check_range("beta", beta, 0, ends="[)")
  logps, ref_logps, rewards, mask = floats_with_axes(
    "BT BT B BT", token_logps, ref_token_logps, rewards, mask
  )
  penalty = beta * kl.k1(*where_scored(mask, logps, ref_logps))
  # number of scored tokens from each token on, the token itself included
  later = jnp.flip(jnp.cumsum(jnp.flip(mask, -1), -1), -1)
  last = mask & (later == 1)
  return jax.lax.stop_gradient(jnp.where(last, rewards[:, None], 0.0) - penalty)


def gae(
  rewards: Array,
  values: Array,
  mask: Array,
  *,
  discount: float = 1.0,
  lam: float = 0.95,
) -> Array:
  """Generalised advantage estimates.

  A_t = sum_l (discount lam)^l d_{t+l},
  d_t = r_t + discount V_{t+1} - V_t

  V after the last scored token is 0; t + 1 is the next scored token. With
  lam = 1 the advantage is the return minus V, with lam = 0 it is d. The value
  function's target is A + V.

  Schulman et al. 2015, "High-Dimensional Continuous Control Using Generalized
  Advantage Estimation", arXiv:1506.02438.

  Args:
    rewards: [B, T] rewards of the tokens.
    values: [B, T] V before each token.
    mask: [B, T] bool, True on scored tokens.
    discount: factor per scored token, in [0, 1].
    lam: decay of the errors' weights, in [0, 1]; a smaller lam relies more on
      V.

  Returns:
    [B, T] advantages, 0 where a token isn't scored.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("discount", discount, 0, 1, ends="[]")
  check_range("lam", lam, 0, 1, ends="[]")
  rewards, values, mask = floats_with_axes("BT BT BT", rewards, values, mask)
  rewards, values = where_scored(mask, rewards, values)

  def back(after, now):
    value_after, advantage_after = after
    reward, value, scored = now
    error = reward + discount * value_after - value
    advantage = error + discount * lam * advantage_after
    # a token that isn't scored passes on the value and advantage after it
    carry = (
      jnp.where(scored, value, value_after),
      jnp.where(scored, advantage, advantage_after),
    )
    return carry, jnp.where(scored, advantage, 0.0)

  nothing = jnp.zeros_like(rewards[:, 0])
  _, advantages = jax.lax.scan(
    back, (nothing, nothing), (rewards.T, values.T, mask.T), reverse=True
  )
  return jax.lax.stop_gradient(advantages.T)


def reward_to_go(
  rewards: Array, mask: Array, *, discount: float = 1.0
) -> Array:
  """Returns (in RL's sense): a token's reward plus the discounted later ones.

  Args:
    rewards: [B, T] rewards of the tokens.
    mask: [B, T] bool, True on scored tokens.
    discount: factor per scored token, in [0, 1].

  Returns:
    [B, T] returns, 0 where a token isn't scored.

  Raises:
    AssertionError: shapes differ.
    UserError: the discount is out of range.
  """
  nothing = jnp.zeros_like(rewards)
  return gae(rewards, nothing, mask, discount=discount, lam=1.0)


def greedy_baseline_advantages(rewards: Array, greedy_rewards: Array) -> Array:
  """ReMax's advantages: the reward minus the greedy response's reward.

  Li et al. 2023, arXiv:2310.10505. The baseline leaves the policy gradient
  unbiased, because the greedy response doesn't depend on the sample.

  Args:
    rewards: [B] rewards of the samples.
    greedy_rewards: [B] rewards of the greedy responses to the same prompts.

  Returns:
    [B] advantages.

  Raises:
    AssertionError: shapes differ.
  """
  rewards, greedy_rewards = equal_floats(rewards, greedy_rewards)
  return jax.lax.stop_gradient(rewards - greedy_rewards)


def group_centered(rewards: Array, valid: Array) -> Array:
  """Rewards minus their mean over the valid responses to a prompt.

  The mean includes the response itself, so that for k responses the expected
  gradient is (k - 1) / k times the policy gradient. An invalid response has
  advantage 0.

  Args:
    rewards: [B, K] rewards of the responses.
    valid: [B, K] bool, False for entries that only fill the list.

  Returns:
    [B, K] advantages.

  Raises:
    AssertionError: shapes differ.
  """
  rewards, valid = floats_with_axes("BK BK", rewards, valid)
  (rewards,) = where_scored(valid, rewards)
  count = jnp.maximum(valid.sum(-1, keepdims=True), 1).astype(rewards.dtype)
  mean = rewards.sum(-1, keepdims=True) / count
  return jax.lax.stop_gradient(where_scored(valid, rewards - mean)[0])


def group_advantages(
  rewards: Array, valid: Array, *, eps: float = 1e-6
) -> Array:
  """GRPO's advantages: centred rewards over their standard deviation.

  A = (r - mean) / (std + eps)

  Mean and std are over the responses to a prompt. std has k - 1 in the
  denominator, as in Tunix and TRL; the paper doesn't say. The division is a
  bias by design: a prompt whose responses' rewards hardly differ counts as much
  as any other prompt. Equal rewards, and a single response, give 0.

  Shao et al. 2024, arXiv:2402.03300.

  Args:
    rewards: [B, K] rewards of the responses.
    valid: [B, K] bool, False for entries that only fill the list.
    eps: number added to the deviation, > 0. The paper has no eps; the default
      is Tunix's, TRL adds 1e-4.

  Returns:
    [B, K] advantages.

  Raises:
    AssertionError: shapes differ.
    UserError: eps is not positive.
  """
  check_range("eps", eps, 0)
  centred = group_centered(rewards, valid)
  others = jnp.maximum(valid.sum(-1, keepdims=True) - 1, 1)
  variance = (centred**2).sum(-1, keepdims=True) / others.astype(centred.dtype)
  return centred / (jnp.sqrt(variance) + eps)


def whiten(x: Array, mask: Array) -> Array:
  """Shifts and scales the scored values to mean 0 and variance 1.

  This serves for rewards and for advantages. Mean and variance are over the
  whole array, which mixes prompts: unlike subtracting the mean over one
  prompt's responses, this changes the optimum. The variance is the population's
  (divided by the count), plus 1e-8. Values that aren't scored become 0, and
  equal values all become 0.

  Args:
    x: an array of any shape.
    mask: bool, of the same shape; True on scored values.

  Returns:
    An array of the same shape, a constant.

  Raises:
    AssertionError: shapes differ.
  """
  chex.assert_equal_shape([x, mask])
  (x,) = where_scored(mask, *equal_floats(x))
  count = jnp.maximum(mask.sum(), 1).astype(x.dtype)
  centred = jnp.where(mask, x - x.sum() / count, 0.0)
  variance = (centred**2).sum() / count
  return jax.lax.stop_gradient(centred * jax.lax.rsqrt(variance + 1e-8))


def leave_one_out_advantages(rewards: Array, valid: Array) -> Array:
  """Each sample's reward less the mean reward of the prompt's other samples.

  A_i = r_i - mean over j != i of r_j  =  n / (n - 1) (r_i - mean of r)

  The baseline doesn't depend on its sample, so that the policy gradient stays
  unbiased; the mean over all n samples would shrink the gradient by a factor
  (n - 1) / n.

  Kool, van Hoof and Welling 2019, "Buy 4 REINFORCE Samples, Get a Baseline for
  Free!"; Ahmadian et al. 2024, arXiv:2402.14740.

  Args:
    rewards: [B, K] rewards of a prompt's K samples; constants.
    valid: [B, K] bool, False where a prompt has fewer samples.

  Returns:
    [B, K] advantages, 0 for invalid samples and for a prompt's only sample.

  Raises:
    AssertionError: shapes differ.
  """
  valid, rewards = zero_where_invalid(valid, rewards)
  rewards = jax.lax.stop_gradient(rewards)
  size = valid.sum(-1, keepdims=True).astype(rewards.dtype)
  others = jnp.maximum(size - 1, 1)
  centred = rewards - rewards.sum(-1, keepdims=True) / jnp.maximum(size, 1)
  return jnp.where(valid & (size > 1), size / others * centred, 0)
