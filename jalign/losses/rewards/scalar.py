"""Losses of models that give each response a scalar score."""

import chex
import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, equal_floats, same_floats
from jalign.types import Array


def bradley_terry(
  chosen_scores: Array,
  rejected_scores: Array,
  *,
  label_smoothing: float = 0.0,
  centring: float = 0.0,
) -> Array:
  """Bradley-Terry loss of a reward model, with label smoothing and centring.

  l = -(1 - e) log sigmoid(s_w - s_l) - e log sigmoid(s_l - s_w)
      + c (s_w + s_l)^2,
  s = score,  e = label_smoothing,  c = centring

  The first two terms depend only on the difference of the scores; the third,
  which is from public code, draws the mean of a pair's scores to 0. No epsilon
  is added inside the logarithm, because badly ranked pairs would then lose
  their gradient.

  Label smoothing: Wang et al. 2024, "Secrets of RLHF in Large Language Models
  Part II: Reward Modeling", arXiv:2401.06080, eq. 5. Stiennon et al. 2020,
  "Learning to Summarize from Human Feedback", arXiv:2009.01325.

  Args:
    chosen_scores: [B] scores of the preferred responses.
    rejected_scores: [B] the same for the dispreferred responses.
    label_smoothing: assumed probability that a label is flipped, in [0, 0.5].
    centring: weight of the squared sum of a pair's scores, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("label_smoothing", label_smoothing, 0, 0.5, ends="[]")
  check_range("centring", centring, 0, ends="[)")
  chosen, rejected = same_floats(chosen_scores, rejected_scores)
  gap = chosen - rejected
  loss = jax.nn.softplus(-gap) + label_smoothing * gap
  return loss + centring * jnp.square(chosen + rejected)


def bradley_terry_margin(
  chosen_scores: Array, rejected_scores: Array, margin: Array
) -> Array:
  """Bradley-Terry loss with a margin, which is wide for strong preferences.

  l = -log sigmoid(s_w - s_l - m),  s = score,  m = margin

  The margin is subtracted: a larger margin makes the loss larger. The margin is
  an annotator's grade, say 1, 2/3, 1/3 or 0, or `preference_strength`'s mean of
  other models' gaps (Wang et al. 2024, arXiv:2401.06080, eq. 6, which prints
  the margin outside the sigmoid, where it would be a constant). Gradients do
  not flow into the margin.

  Touvron et al. 2023, "Llama 2: Open Foundation and Fine-Tuned Chat Models",
  arXiv:2307.09288.

  Args:
    chosen_scores: [B] scores of the preferred responses.
    rejected_scores: [B] the same for the dispreferred responses.
    margin: [B] gap at which the loss is log 2; a constant.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  chosen, rejected, margin = same_floats(chosen_scores, rejected_scores, margin)
  return jax.nn.softplus(jax.lax.stop_gradient(margin) - (chosen - rejected))


def bradley_terry_soft(
  chosen_scores: Array, rejected_scores: Array, preference: Array
) -> Array:
  """Bradley-Terry loss for a known preference probability.

  l = -p log sigmoid(s_w - s_l) - (1 - p) log sigmoid(s_l - s_w),
  s = score,  p = P(y_w > y_l)

  The minimum is at s_w - s_l = log(p / (1 - p)); a tie has p = 1/2. Gradients
  do not flow into the preference.

  Christiano et al. 2017, "Deep Reinforcement Learning from Human Preferences",
  arXiv:1706.03741.

  Args:
    chosen_scores: [B] scores of the first responses.
    rejected_scores: [B] the same for the second responses.
    preference: [B] P(first > second) in [0, 1]; a constant.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  chosen, rejected, preference = same_floats(
    chosen_scores, rejected_scores, preference
  )
  gap = chosen - rejected
  flipped = 1 - jax.lax.stop_gradient(preference)
  return jax.nn.softplus(-gap) + flipped * gap


def bradley_terry_list(scores: Array, ranks: Array, valid: Array) -> Array:
  """Bradley-Terry loss over all pairs of a prompt's ranked responses.

  l = mean of -log sigmoid(s_i - s_j) over the pairs that rank i before j

  An example is a prompt, so that its K (K - 1) / 2 correlated pairs stay in one
  batch. Tied responses make no pair, and a list without pairs has loss 0.

  Ouyang et al. 2022, "Training language models to follow instructions with
  human feedback", arXiv:2203.02155, eq. 1.

  Args:
    scores: [B, K] scores of a prompt's responses.
    ranks: [B, K] ranks of the responses, the smallest for the best; a constant.
    valid: [B, K] bool, False for entries that only fill the list.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  chex.assert_rank(scores, 2)
  scores, ranks = equal_floats(scores, ranks)
  chex.assert_equal_shape([scores, valid])
  better = ranks[:, :, None] < ranks[:, None, :]
  better &= valid[:, :, None] & valid[:, None, :]
  pairs = jax.nn.softplus(scores[:, None, :] - scores[:, :, None])
  total = jnp.sum(jnp.where(better, pairs, 0.0), (1, 2))
  return total / jnp.maximum(jnp.sum(better, (1, 2), dtype=total.dtype), 1)


def cost_model(
  harmful_costs: Array,
  harmless_costs: Array,
  harmful_unsafe: Array,
  harmless_unsafe: Array,
) -> Array:
  """Cost model's loss: Bradley-Terry on harm; unsafe responses cost above 0.

  l = -log sigmoid(c_w - c_l) - log sigmoid(s_w c_w) - log sigmoid(s_l c_l),
  c = cost,  s = +1 if unsafe, -1 if safe

  w is the *more harmful* response of the pair, since costs rise with harm. Both
  responses may be safe, and both may be unsafe. Some public code puts the safer
  response first and flips the signs.

  Dai et al. 2023, "Safe RLHF: Safe Reinforcement Learning from Human Feedback",
  arXiv:2310.12773.

  Args:
    harmful_costs: [B] costs of the more harmful responses.
    harmless_costs: [B] the same for the less harmful responses.
    harmful_unsafe: [B] bool, whether the more harmful response is unsafe.
    harmless_unsafe: [B] bool, whether the less harmful response is unsafe.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  up, down = same_floats(harmful_costs, harmless_costs)
  chex.assert_equal_shape([up, harmful_unsafe, harmless_unsafe])
  wrong_side = lambda unsafe, cost: jax.nn.softplus(
    jnp.where(unsafe, -cost, cost)
  )
  signs = wrong_side(harmful_unsafe, up) + wrong_side(harmless_unsafe, down)
  return jax.nn.softplus(down - up) + signs
