"""Losses on preferences between segments of steps."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, floats_with_axes, where_scored
from jalign.types import Array


def _check(alpha: float, bias: float, discount: float) -> None:
  check_range("alpha", alpha, 0)
  check_range("bias", bias, 0, 1, ends="[]")
  check_range("discount", discount, 0, 1, ends="(]")


def _discounted_sum(steps: Array, mask: Array, discount: float) -> Array:
  """Sums over scored steps, the first of which has weight 1."""
  before = jnp.cumsum(mask, -1, dtype=jnp.int32) - mask.astype(jnp.int32)
  weight = jnp.power(discount, before.astype(steps.dtype))
  return (weight.astype(steps.dtype) * where_scored(mask, steps)[0]).sum(-1)


def _biased(advantages: Array, preference: Array, bias: float) -> Array:
  """The likelihood of the label; the loser of either outcome is biased."""
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
  """Contrastive preference learning: log-probs are advantages.

  l = P softplus(bias A_2 - A_1) + (1 - P) softplus(bias A_1 - A_2),
  A_i = alpha sum_t discount^n(t) log pi(a_t | s_t), over segment i,
  n(t) = scored steps of the segment before t,  P = preference

  The bias is always on the loser. Below 1 it makes the loss lower where the
  winner is likely; at 0 the loser isn't pushed at all. `preference` is P(first
  segment > second): in the authors' code the label 1 prefers the second. A
  segment's discount starts at its first scored step, so padding on either side
  changes nothing; a segment without scored steps has A = 0.

  Hejna et al. 2023, "Contrastive Preference Learning: Learning from Human
  Feedback without RL", arXiv:2310.13639.

  Args:
    step_logps: [B, 2, T] log-probs (nats) of the actions. Where policies are
      Gaussian, the authors' code has -||a - mean||^2 here.
    preference: [B] P(first > second) in [0, 1]; a constant.
    mask: [B, 2, T] bool; scored steps.
    alpha: scale of the advantages, > 0.
    bias: weight of the loser, in [0, 1].
    discount: for each scored step, in (0, 1].

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

  `cpl` with log-ratios. Without bias and discount it is DPO with beta = alpha.
  `preference` is P(first segment > second): in the authors' code the label 1
  prefers the second.

  Hejna et al. 2023, "Contrastive Preference Learning: Learning from Human
  Feedback without RL", arXiv:2310.13639.

  Args:
    step_logps: [B, 2, T] log-probs (nats) of the actions.
    ref_step_logps: [B, 2, T] under the reference; a constant.
    preference: [B] P(first > second) in [0, 1]; a constant.
    mask: [B, 2, T] bool; scored steps.
    alpha: scale of the advantages, > 0.
    bias: weight of the loser, in [0, 1].
    discount: for each scored step, in (0, 1].

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

  The mean over the pairs of valid segments whose scores differ. Ties are no
  pair: the authors' code orders them by position. It also leaves pairs whose
  loss underflows to 0 out of the mean; here they count. A list without a pair
  has loss 0.

  Hejna et al. 2023, "Contrastive Preference Learning: Learning from Human
  Feedback without RL", arXiv:2310.13639.

  Args:
    step_logps: [B, K, T] log-probs (nats) of the actions of K segments.
    scores: [B, K] of the segments, higher is better; a constant.
    valid: [B, K] bool; False for what only fills the list.
    mask: [B, K, T] bool; scored steps.
    alpha: scale of the advantages, > 0.
    bias: weight of the loser, in [0, 1].
    discount: for each scored step, in (0, 1].

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
  """Preferences by regret: how far below the optimum a segment stays.

  l = -P log sigmoid(g_2 - g_1) - (1 - P) log sigmoid(g_1 - g_2),
  g_i = -sum_t A(s_t, a_t), over segment i,  P = preference

  A = Q - V of the optimal policy, at most 0. Fits a model of A: gradients flow
  into it. For deterministic dynamics see `deterministic_regret`.

  Knox et al. 2022, "Models of Human Preference for Learning Reward Functions",
  arXiv:2206.02231.

  Args:
    step_advantages: [B, 2, T] A of the steps.
    preference: [B] P(first > second) in [0, 1]; a constant.
    mask: [B, 2, T] bool; scored steps.

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

  Fits a model of r: gradients flow into it. What a segment's end is worth
  doesn't count; see `regret_preference`.

  Knox et al. 2022, "Models of Human Preference for Learning Reward Functions",
  arXiv:2206.02231.

  Args:
    step_rewards: [B, 2, T] r of the steps.
    preference: [B] P(first > second) in [0, 1]; a constant.
    mask: [B, 2, T] bool; scored steps.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  return _bradley_terry(step_rewards, preference, mask)


def _bradley_terry(steps: Array, preference: Array, mask: Array) -> Array:
  """The likelihood of labels by sums over the segments."""
  steps, preference, mask = floats_with_axes(
    "B2T B B2T", steps, preference, mask
  )
  return _biased(where_scored(mask, steps)[0].sum(-1), preference, 1.0)


def deterministic_regret(
  rewards: Array, start_values: Array, end_values: Array, mask: Array
) -> Array:
  """Regret of segments in deterministic dynamics.

  V(s_0) - sum_t r_t - V(s_end): 0 for a segment of optimal steps. Its negative,
  as one step's advantage, is what `regret_preference` sums.

  Args:
    rewards: [..., T] of the steps.
    start_values: [...] optimal values of the first states.
    end_values: [...] the same of the states after the last scored steps.
    mask: [..., T] bool; scored steps.

  Returns:
    [...] regrets.
  """
  return start_values - where_scored(mask, rewards)[0].sum(-1) - end_values
