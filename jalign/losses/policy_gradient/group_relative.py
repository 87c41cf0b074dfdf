"""Losses on several sampled responses to each prompt."""

import jax.numpy as jnp

from jalign.losses import kl
from jalign.losses._arrays import (
  check_range,
  floats_with_axes,
  where_scored,
  zero_where_invalid,
)
from jalign.losses.advantages import (
  group_advantages,
  group_centered,
  leave_one_out_advantages,
)
from jalign.losses.policy_gradient.clipping import (
  importance_ratio,
  pessimistic,
)
from jalign.types import Array


def rloo(logps: Array, scores: Array, valid: Array) -> Array:
  """RLOO: REINFORCE with the other samples' mean reward as the baseline.

  l = -(1 / n) sum_i A_i log pi(y_i),
  A_i = r_i - mean over j != i of r_j,  r = score

  The loss is a surrogate: with y_1 ... y_n drawn from the policy its gradient
  is an unbiased estimate of the gradient of -E[r], but its value has no
  meaning. Advantages are constants. Put a KL penalty into the scores. Prompts
  with fewer than two valid samples have loss 0.

  Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style Optimization
  for Learning from Human Feedback in LLMs", arXiv:2402.14740.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    scores: [B, K] rewards of the samples; constants.
    valid: [B, K] bool, False where a prompt has fewer than K samples.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  advantages = leave_one_out_advantages(scores, valid)
  valid, logps, advantages = zero_where_invalid(valid, logps, advantages)
  size = valid.sum(-1).astype(logps.dtype)
  return -(advantages * logps).sum(-1) / size.clip(1)


def _per_prompt(totals: Array, valid: Array) -> Array:
  """[B] means over the valid responses; 0 for a prompt without any."""
  count = jnp.maximum(valid.sum(-1), 1).astype(totals.dtype)
  return jnp.where(valid, totals, 0.0).sum(-1) / count


def grpo(
  token_logps: Array,
  old_token_logps: Array,
  ref_token_logps: Array,
  rewards: Array,
  mask: Array,
  valid: Array,
  *,
  clip: float = 0.2,
  beta: float = 0.04,
  eps: float = 1e-6,
) -> Array:
  """Group relative policy optimisation (GRPO).

  l = mean_k mean_t (-min(u A, min(max(u, 1 - clip), 1 + clip) A) + beta d),
  A = (r - mean_k r) / (std_k r + eps),  u = pi(y_t) / old(y_t),
  d = q - 1 - log q,  q = ref(y_t) / pi(y_t)

  k runs over the responses to a prompt and t over the tokens of a response. An
  example is a prompt, and a long response counts as much as a short one. For n
  responses, std has n - 1 in the denominator, as in Tunix and TRL; the paper
  doesn't say. The loss is biased by design: division by the deviation gives all
  prompts the same weight, and division by the length favours short good and
  long bad responses; see `dr_grpo`. For equal rewards only the KL's term is
  left. d is `kl.k3`, whose expected gradient is that of KL(ref || pi). log u
  and log q count as at most 60, and have no gradient above 60. A prompt without
  valid responses, and a response without scored tokens, have loss 0.

  Shao et al. 2024, "DeepSeekMath: Pushing the Limits of Mathematical Reasoning
  in Open Language Models", arXiv:2402.03300.

  Args:
    token_logps: [B, K, T] log-probs (nats) of the responses' tokens.
    old_token_logps: [B, K, T] token_logps when sampled; a constant.
    ref_token_logps: [B, K, T] token_logps under the reference; a constant.
    rewards: [B, K] r, rewards of the responses; a constant.
    mask: [B, K, T] bool, True on scored tokens.
    valid: [B, K] bool, False for entries that only fill the list.
    clip: half-width of the clipping range, > 0.
    beta: weight of the KL's estimate, >= 0.
    eps: number added to the rewards' deviation, > 0. The paper has no eps; the
      default is Tunix's, TRL adds 1e-4.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("clip", clip, 0)
  check_range("beta", beta, 0, ends="[)")
  check_range("eps", eps, 0)
  logps, old_logps, ref_logps, rewards, mask, valid = floats_with_axes(
    "BKT BKT BKT BK BKT BK",
    token_logps,
    old_token_logps,
    ref_token_logps,
    rewards,
    mask,
    valid,
  )
  logps, old_logps, ref_logps = where_scored(
    mask & valid[..., None], logps, old_logps, ref_logps
  )
  advantages = group_advantages(rewards, valid, eps=eps)[..., None]
  gain = pessimistic(importance_ratio(logps, old_logps), advantages, clip)
  tokens = beta * kl.k3(logps, ref_logps) - gain
  count = jnp.maximum(mask.sum(-1), 1).astype(tokens.dtype)
  totals = jnp.where(mask, tokens, 0.0).sum(-1) / count
  return _per_prompt(totals, valid)


def dr_grpo(
  token_logps: Array,
  old_token_logps: Array,
  rewards: Array,
  mask: Array,
  valid: Array,
  *,
  clip: float = 0.2,
  length: float = 1.0,
) -> Array:
  """Dr. GRPO: GRPO without division by the deviation or by the lengths.

  l = -mean_k sum_t min(u A, min(max(u, 1 - clip), 1 + clip) A) / length,
  A = r - mean_k r,  u = pi(y_t) / old(y_t)

  k runs over the responses to a prompt and t over the tokens of a response. At
  the old policy, with length = 1 and n responses, the expected gradient is
  (n - 1) / n times the gradient of minus the expected reward. The paper has no
  KL term, and so the loss needs no reference. `length` is one number for all
  responses, such as the token budget of the generation. A prompt without valid
  responses has loss 0. log u counts as at most 60, and has no gradient above
  60.

  Liu et al. 2025, "Understanding R1-Zero-Like Training: A Critical
  Perspective", arXiv:2503.20783.

  Args:
    token_logps: [B, K, T] log-probs (nats) of the responses' tokens.
    old_token_logps: [B, K, T] token_logps when sampled; a constant.
    rewards: [B, K] r, rewards of the responses; a constant.
    mask: [B, K, T] bool, True on scored tokens.
    valid: [B, K] bool, False for entries that only fill the list.
    clip: half-width of the clipping range, > 0.
    length: number that divides a response's sum, > 0; the paper's equation has
      the sum itself, which is length = 1.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("clip", clip, 0)
  check_range("length", length, 0)
  logps, old_logps, rewards, mask, valid = floats_with_axes(
    "BKT BKT BK BKT BK", token_logps, old_token_logps, rewards, mask, valid
  )
  scored = mask & valid[..., None]
  logps, old_logps = where_scored(scored, logps, old_logps)
  advantages = group_centered(rewards, valid)[..., None]
  gain = pessimistic(importance_ratio(logps, old_logps), advantages, clip)
  totals = -jnp.where(scored, gain, 0.0).sum(-1) / length
  return _per_prompt(totals, valid)
