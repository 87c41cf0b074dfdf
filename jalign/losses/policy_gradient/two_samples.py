"""Pairwise policy gradients: the baseline of a sample is the other sample."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, same_floats
from jalign.losses.policy_gradient.clipping import (
  importance_ratio,
  pessimistic,
)
from jalign.types import Array


def p3o(
  chosen_logps: Array,
  rejected_logps: Array,
  old_chosen_logps: Array,
  old_rejected_logps: Array,
  chosen_scores: Array,
  rejected_scores: Array,
  *,
  clip: float = 0.2,
) -> Array:
  """Pairwise proximal policy optimisation (P3O), clipping each ratio by itself.

  l = -min(u_w A, c(u_w) A) - min(-u_l A, -c(u_l) A),
  A = (s_w - s_l) / 2,  u = pi / old,
  c(u) = min(max(u, 1 - clip), 1 + clip),  s = score

  The two responses are samples from `old`, in any order: "chosen" need not be
  the better one. At the old policy the gradient is that of
  -A (log pi(y_w) - log pi(y_l)): leave-one-out REINFORCE with two samples, an
  unbiased estimate that doesn't change when a constant is added to the scores.
  Put a KL penalty over the whole response into the scores. log u counts as at
  most 60, and has no gradient above 60.

  Wu et al. 2023, "Pairwise Proximal Policy Optimization: Harnessing Relative
  Feedback for LLM Alignment", arXiv:2310.00212 (its first version; that
  the clipping is PPO's is our choice).

  Args:
    chosen_logps: [B] summed log-probs (nats) of the first responses.
    rejected_logps: [B] the same for the second responses.
    old_chosen_logps: [B] chosen_logps when sampled; a constant.
    old_rejected_logps: [B] rejected_logps when sampled; a constant.
    chosen_scores: [B] rewards of the first responses; a constant.
    rejected_scores: [B] the same for the second responses.
    clip: half-width of the clipping range, > 0; the default is PPO's.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("clip", clip, 0)
  first, second, old_first, old_second, *scores = same_floats(
    chosen_logps,
    rejected_logps,
    old_chosen_logps,
    old_rejected_logps,
    chosen_scores,
    rejected_scores,
  )
  half = (scores[0] - scores[1]) / 2
  return -(
    pessimistic(importance_ratio(first, old_first), half, clip)
    + pessimistic(importance_ratio(second, old_second), -half, clip)
  )


def p3o_joint(
  chosen_logps: Array,
  rejected_logps: Array,
  old_chosen_logps: Array,
  old_rejected_logps: Array,
  chosen_scores: Array,
  rejected_scores: Array,
  *,
  clip: float = 0.2,
) -> Array:
  """Pairwise proximal policy optimisation (P3O), clipping the pair's ratio.

  l = -u A (log pi(y_w) - log pi(y_l)),
  A = (s_w - s_l) / 2,  s = score,
  u = pi(y_w) pi(y_l) / (old(y_w) old(y_l)), within [1 - clip, 1 + clip]

  u is the importance weight of the pair, a constant; the log-ratio is clipped
  before the exponential. A public description has a plus between the log-probs
  instead of the minus, which isn't the gradient. At the old policy the gradient
  is that of `p3o`, whose notes on scores apply here too. Unlike there, a pair
  outside the range still has a gradient.

  Wu et al. 2023, "Pairwise Proximal Policy Optimization: Harnessing Relative
  Feedback for LLM Alignment", arXiv:2310.00212 (its second version; that
  the weight is a constant is our choice).

  Args:
    chosen_logps: [B] summed log-probs (nats) of the first responses.
    rejected_logps: [B] the same for the second responses.
    old_chosen_logps: [B] chosen_logps when sampled; a constant.
    old_rejected_logps: [B] rejected_logps when sampled; a constant.
    chosen_scores: [B] rewards of the first responses; a constant.
    rejected_scores: [B] the same for the second responses.
    clip: half-width of the clipping range, in [0, 1); the default is PPO's.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("clip", clip, 0, 1, ends="[)")
  first, second, old_first, old_second, *scores = same_floats(
    chosen_logps,
    rejected_logps,
    old_chosen_logps,
    old_rejected_logps,
    chosen_scores,
    rejected_scores,
  )
  ratio = first + second - old_first - old_second
  weight = jnp.exp(jnp.clip(ratio, jnp.log1p(-clip), jnp.log1p(clip)))
  half = (scores[0] - scores[1]) / 2
  return -jax.lax.stop_gradient(weight * half) * (first - second)
