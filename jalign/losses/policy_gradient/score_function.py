"""Score-function losses: an advantage times a log-prob."""

import jax

from jalign.losses._arrays import floats_with_axes, same_floats, where_scored
from jalign.losses.advantages import greedy_baseline_advantages
from jalign.types import Array


def reinforce(token_logps: Array, advantages: Array, mask: Array) -> Array:
  """REINFORCE with an advantage for each token.

  l = -sum_t A_t log pi(y_t)

  A batch's sum is divided by scored tokens. The loss's value has no meaning.
  Its expected gradient is that of minus the expected reward if the samples are
  the policy's own (temperature 1, no truncation) and A_t = reward - baseline,
  with a baseline that doesn't depend on the sample from t on. For a reward of
  the whole response pass the same A_t for every token. See
  `jalign.losses.advantages`.

  Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style
  Optimization for Learning from Human Feedback in LLMs", arXiv:2402.14740.

  Args:
    token_logps: [B, T] log-probs (nats) of the response's tokens.
    advantages: [B, T] advantages of the tokens; a constant.
    mask: [B, T] bool, True on scored tokens.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  token_logps, advantages, mask = floats_with_axes(
    "BT BT BT", token_logps, advantages, mask
  )
  logps, advantages = where_scored(mask, token_logps, advantages)
  return -(jax.lax.stop_gradient(advantages) * logps).sum(-1)


def remax(logps: Array, rewards: Array, greedy_rewards: Array) -> Array:
  """ReMax: REINFORCE with the greedy response's reward as the baseline.

  l = -(r(y) - r(y_greedy)) log pi(y)

  The gradient is unbiased whatever the greedy response's reward is, and a
  constant added to all rewards changes nothing. Put a KL penalty over the whole
  response into the rewards. The authors' code charges each token only for its
  own log-ratio, which isn't the KL's gradient, clips the difference of rewards
  at 5, and divides by tokens; here the log-prob is the sum.

  Li et al. 2023, "ReMax: A Simple, Effective, and Efficient Reinforcement
  Learning Method for Aligning Large Language Models", arXiv:2310.10505.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    rewards: [B] rewards of samples from the policy; a constant.
    greedy_rewards: [B] rewards of the greedy responses to the same prompts; a
      constant.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  logps, rewards, greedy_rewards = same_floats(logps, rewards, greedy_rewards)
  return -greedy_baseline_advantages(rewards, greedy_rewards) * logps
