"""Score-function losses: an advantage times a log-prob."""

import jax

from jalign.losses._arrays import floats_with_axes, same_floats, where_scored
from jalign.losses.advantages import greedy_baseline_advantages
from jalign.types import Array


def reinforce(token_logps: Array, advantages: Array, mask: Array) -> Array:
  """REINFORCE with an advantage for each token.

  l = -sum_t A_t log pi(y_t)

  Its CATALOGUE row divides by scored tokens. The value means nothing; the
  gradient is that of the expected reward if the samples are the policy's own
  (temperature 1, nothing cut off) and A_t = reward - baseline with a baseline
  that doesn't depend on the sample from t on. A reward for the whole response
  is the same A_t on every token. See `jalign.losses.advantages`.

  Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style
  Optimization for Learning from Human Feedback in LLMs", arXiv:2402.14740.

  Args:
    token_logps: [B, T] log-probs (nats) of the response's tokens.
    advantages: [B, T] of the tokens; a constant.
    mask: [B, T] bool; scored tokens.

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
  """REINFORCE with the greedy response's reward for a baseline.

  l = -(r(y) - r(y_greedy)) log pi(y)

  Unbiased, whatever the greedy response is worth, and blind to a constant in
  the rewards. A KL penalty belongs in the rewards, over the whole response:
  the authors' code charges each token for its own log-ratio only, which isn't
  the KL's gradient, and clips the difference at 5. It divides by tokens; here
  the log-prob is the sum.

  Li et al. 2023, "ReMax: A Simple, Effective, and Efficient Reinforcement
  Learning Method for Aligning Large Language Models", arXiv:2310.10505.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    rewards: [B] of samples from the policy; a constant.
    greedy_rewards: [B] of the greedy responses to the same prompts; a constant.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  logps, rewards, greedy_rewards = same_floats(logps, rewards, greedy_rewards)
  return -greedy_baseline_advantages(rewards, greedy_rewards) * logps
