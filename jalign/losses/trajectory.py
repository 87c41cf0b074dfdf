"""Losses on preferences between segments of trajectories."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, floats_with_axes, where_scored
from jalign.types import Array


def _check(alpha: float, bias: float, discount: float) -> None:
  check_range("alpha", alpha, 0)
  check_range("bias", bias, 0, 1, ends="[]")
  check_range("discount", discount, 0, 1, ends="(]")


def _discounted_sum(steps: Array, mask: Array, discount: float) -> Array:
  """Discounted sums over scored steps; the first scored step has weight 1."""
  before = jnp.cumsum(mask, -1, dtype=jnp.int32) - mask.astype(jnp.int32)
  weight = jnp.power(discount, before.astype(steps.dtype))
  return (weight.astype(steps.dtype) * where_scored(mask, steps)[0]).sum(-1)


def _biased(advantages: Array, preference: Array, bias: float) -> Array:
  """Negative log-likelihood of the label; `bias` scales the loser's advantage.

  Args:
    advantages: [B, 2] advantages of the two segments.
    preference: [B] P(first > second) in [0, 1]; a constant.
    bias: factor on the loser of either outcome, in [0, 1].
  """
  first, second = advantages[..., 0], advantages[..., 1]
  preference = jax.lax.stop_gradient(preference)
  return preference * jax.nn.softplus(bias * second - first) + (
    1 - preference
  ) * jax.nn.softplus(bias * first - second)


def cpl(
  step_logps: Array,
  preference: Array,
  mask: Array,
  *,
  alpha: float = 0.1,
  bias: float = 0.5,
  discount: float = 1.0,
) -> Array:
  """Contrastive preference learning: log-probs serve as advantages.

  l = P softplus(bias A_2 - A_1) + (1 - P) softplus(bias A_1 - A_2),
  A_i = alpha sum_t discount^n(t) log pi(a_t | s_t), over segment i,
  n(t) = scored steps of the segment before t,  P = preference

  The bias always multiplies the loser's advantage. A bias below 1 makes the
  loss lower where the winner is likely; at 0 the loser gets no gradient.
  `preference` is P(first segment > second), whereas in the authors' code the
  label 1 prefers the second segment. A segment's discount starts at its first
  scored step, so that padding on either side changes nothing; a segment without
  scored steps has A = 0.

  Hejna et al. 2023, "Contrastive Preference Learning: Learning from Human
  Feedback without RL", arXiv:2310.13639.

  Args:
    step_logps: [B, 2, T] log-probs (nats) of the actions. For Gaussian policies
      the authors' code uses -||a - mean||^2 instead.
    preference: [B] P(first > second) in [0, 1]; a constant.
    mask: [B, 2, T] bool, True on scored steps.
    alpha: scale of the advantages, > 0.
    bias: weight of the loser, in [0, 1].
    discount: factor per scored step, in (0, 1].

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  _check(alpha, bias, discount)
  step_logps, preference, mask = floats_with_axes(
    "B2T B B2T", step_logps, preference, mask
  )
  advantages = alpha * _discounted_sum(step_logps, mask, discount)
  return _biased(advantages, preference, bias)


def cpl_kl(
  step_logps: Array,
  ref_step_logps: Array,
  preference: Array,
  mask: Array,
  *,
  alpha: float = 0.2,
  bias: float = 0.75,
  discount: float = 1.0,
) -> Array:
  """Contrastive preference learning against a reference.

  l = P softplus(bias A_2 - A_1) + (1 - P) softplus(bias A_1 - A_2),
  A_i = alpha sum_t discount^n(t) log (pi / ref)(a_t | s_t), over segment i,
  n(t) = scored steps of the segment before t,  P = preference

  This is `cpl` with log-ratios in place of log-probs. With bias = discount = 1
  it is DPO with beta = alpha. `preference` is P(first segment > second),
  whereas in the authors' code the label 1 prefers the second segment.

  Hejna et al. 2023, "Contrastive Preference Learning: Learning from Human
  Feedback without RL", arXiv:2310.13639.

  Args:
    step_logps: [B, 2, T] log-probs (nats) of the actions.
    ref_step_logps: [B, 2, T] step_logps under the reference; a constant.
    preference: [B] P(first > second) in [0, 1]; a constant.
    mask: [B, 2, T] bool, True on scored steps.
    alpha: scale of the advantages, > 0.
    bias: weight of the loser, in [0, 1].
    discount: factor per scored step, in (0, 1].

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  _check(alpha, bias, discount)
  step_logps, ref_step_logps, preference, mask = floats_with_axes(
    "B2T B2T B B2T", step_logps, ref_step_logps, preference, mask
  )
  logps, ref_logps = where_scored(mask, step_logps, ref_step_logps)
  ratios = logps - jax.lax.stop_gradient(ref_logps)
  advantages = alpha * _discounted_sum(ratios, mask, discount)
  return _biased(advantages, preference, bias)


def cpl_ranked(
  step_logps: Array,
  scores: Array,
  valid: Array,
  mask: Array,
  *,
  alpha: float = 0.1,
  bias: float = 0.5,
  discount: float = 1.0,
) -> Array:
  """Contrastive preference learning on every pair of ranked segments.

  l = mean_{i, j: s_i > s_j} softplus(bias A_j - A_i),
  A_i = alpha sum_t discount^n(t) log pi(a_t | s_t), over segment i,
  n(t) = scored steps of the segment before t,  s = score

  The mean is over the pairs of valid segments whose scores differ. Segments of
  equal scores make no pair; the authors' code orders them by position. Their
  code also leaves pairs whose loss underflows to 0 out of the mean; here those
  pairs count. A list without a pair has loss 0.

  Hejna et al. 2023, "Contrastive Preference Learning: Learning from Human
  Feedback without RL", arXiv:2310.13639.

  Args:
    step_logps: [B, K, T] log-probs (nats) of the actions of K segments.
    scores: [B, K] scores of the segments, higher is better; a constant.
    valid: [B, K] bool, False for entries that only fill the list.
    mask: [B, K, T] bool, True on scored steps.
    alpha: scale of the advantages, > 0.
    bias: weight of the loser, in [0, 1].
    discount: factor per scored step, in (0, 1].

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  _check(alpha, bias, discount)
  step_logps, scores, valid, mask = floats_with_axes(
    "BKT BK BK BKT", step_logps, scores, valid, mask
  )
  advantages = alpha * _discounted_sum(step_logps, mask, discount)
  better = scores[:, :, None] > scores[:, None, :]  # [i, j]: i beats j
  better &= valid[:, :, None] & valid[:, None, :]
  gap = bias * advantages[:, None, :] - advantages[:, :, None]
  total = jnp.where(better, jax.nn.softplus(gap), 0.0).sum((1, 2))
  count = jnp.maximum(better.sum((1, 2)), 1)
  return total / count.astype(total.dtype)


def regret_preference(
  step_advantages: Array, preference: Array, mask: Array
) -> Array:
  """Preferences by regret: by how much a segment falls short of the optimum.

  l = -P log sigmoid(g_2 - g_1) - (1 - P) log sigmoid(g_1 - g_2),
  g_i = -sum_t A(s_t, a_t), over segment i,  P = preference

  A = Q - V is the advantage under the optimal policy, at most 0. The loss fits
  a model of A, into which gradients flow. For deterministic dynamics see
  `deterministic_regret`.

  Knox et al. 2022, "Models of Human Preference for Learning Reward Functions",
  arXiv:2206.02231.

  Args:
    step_advantages: [B, 2, T] A, advantages of the steps.
    preference: [B] P(first > second) in [0, 1]; a constant.
    mask: [B, 2, T] bool, True on scored steps.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  return _bradley_terry(step_advantages, preference, mask)


def partial_return_preference(
  step_rewards: Array, preference: Array, mask: Array
) -> Array:
  """Preferences by partial return: the rewards that a segment collects.

  l = -P log sigmoid(R_1 - R_2) - (1 - P) log sigmoid(R_2 - R_1),
  R_i = sum_t r(s_t, a_t), over segment i,  P = preference

  The loss fits a model of r, into which gradients flow. The value of a
  segment's last state doesn't count; see `regret_preference`.

  Knox et al. 2022, "Models of Human Preference for Learning Reward Functions",
  arXiv:2206.02231.

  Args:
    step_rewards: [B, 2, T] r, rewards of the steps.
    preference: [B] P(first > second) in [0, 1]; a constant.
    mask: [B, 2, T] bool, True on scored steps.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  return _bradley_terry(step_rewards, preference, mask)


def _bradley_terry(steps: Array, preference: Array, mask: Array) -> Array:
  """Negative log-likelihood of labels, given sums over the segments."""
  steps, preference, mask = floats_with_axes(
    "B2T B B2T", steps, preference, mask
  )
  return _biased(where_scored(mask, steps)[0].sum(-1), preference, 1.0)


def deterministic_regret(
  rewards: Array, start_values: Array, end_values: Array, mask: Array
) -> Array:
  """Regret of segments in deterministic dynamics.

  V(s_0) - sum_t r_t - V(s_end), which is 0 for a segment of optimal steps. For
  `regret_preference` pass the negative regret as the advantage of one step.

  Args:
    rewards: [..., T] rewards of the steps.
    start_values: [...] optimal values of the first states.
    end_values: [...] optimal values of the states after the last scored steps.
    mask: [..., T] bool, True on scored steps.

  Returns:
    [...] regrets.
  """
  return start_values - where_scored(mask, rewards)[0].sum(-1) - end_values
