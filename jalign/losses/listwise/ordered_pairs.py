"""Sums over the ordered pairs of a list: LiPO's pairwise and lambda losses."""

import math

import jax
import jax.numpy as jnp

from jalign.losses.listwise._lists import (
  differences,
  implicit_rewards,
  outranks,
  precedes,
  sum_over_pairs,
)
from jalign.types import Array


def pair_logistic(
  logps: Array,
  ref_logps: Array,
  scores: Array,
  valid: Array,
  *,
  beta: float = 0.05,
) -> Array:
  """DPO summed over the pairs of a list that the scores order.

  l = sum over psi_i > psi_j of -log sigmoid(s_i - s_j),
  s = beta log pi/ref,  psi = score

  Pairs of equal scores don't count; a list without an ordered pair has loss 0.
  For lists of two this is DPO. The loss is a sum, as in the paper, so that a
  list of K responses weighs as much as up to K (K - 1) / 2 pairs.

  Liu et al. 2024, "LiPO: Listwise Preference Optimization through
  Learning-to-Rank", arXiv:2402.01878.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    ref_logps: [B, K] logps under the reference; a constant.
    scores: [B, K] labels, higher is better; constants, of which only the order
      counts.
    valid: [B, K] bool, False where a list is shorter than K.
    beta: strength of the KL regularisation, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  s, scores, valid = implicit_rewards(beta, logps, ref_logps, scores, valid)
  return sum_over_pairs(
    jax.nn.softplus(-differences(s)), outranks(scores, valid)
  )


def pair_hinge(
  logps: Array,
  ref_logps: Array,
  scores: Array,
  valid: Array,
  *,
  beta: float = 0.05,
) -> Array:
  """A hinge at 1 summed over the pairs of a list that the scores order.

  l = sum over psi_i > psi_j of max(0, 1 - (s_i - s_j)),
  s = beta log pi/ref,  psi = score

  The gradient at the kink is 0. Pairs of equal scores don't count; a list
  without an ordered pair has loss 0.

  Liu et al. 2024, "LiPO: Listwise Preference Optimization through
  Learning-to-Rank", arXiv:2402.01878.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    ref_logps: [B, K] logps under the reference; a constant.
    scores: [B, K] labels, higher is better; constants, of which only the order
      counts.
    valid: [B, K] bool, False where a list is shorter than K.
    beta: strength of the KL regularisation, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  s, scores, valid = implicit_rewards(beta, logps, ref_logps, scores, valid)
  return sum_over_pairs(
    jax.nn.relu(1 - differences(s)), outranks(scores, valid)
  )


def lipo_lambda(
  logps: Array,
  ref_logps: Array,
  scores: Array,
  valid: Array,
  *,
  beta: float = 0.05,
) -> Array:
  """LiPO-lambda: pairs weighted by how much their swap changes the gain (DCG).

  l = sum over psi_i > psi_j of Delta_ij (-log sigmoid(s_i - s_j)),
  Delta_ij = |2^psi_i - 2^psi_j| |1 / ln(1 + n_i) - 1 / ln(1 + n_j)|,
  s = beta log pi/ref,  psi = score,  n_i = rank of s_i, 1 for the highest

  Delta is a constant: no gradient flows through the ranks. Equal s take ranks
  in the order of the list, so that the order of the responses matters where the
  policy equals the reference. Pairs of equal scores don't count; a list without
  an ordered pair has loss 0. The paper's labels are in [0, 1]; other labels are
  accepted, but above 64 they count as 64, so that 2^psi is finite.

  This is the paper's equation; some printed versions have a stray minus. The
  paper's experiments used RAX's defaults, which are `lipo_lambda_rax`.

  Liu et al. 2024, "LiPO: Listwise Preference Optimization through
  Learning-to-Rank", arXiv:2402.01878.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    ref_logps: [B, K] logps under the reference; a constant.
    scores: [B, K] labels, higher is better; constants.
    valid: [B, K] bool, False where a list is shorter than K.
    beta: strength of the KL regularisation, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  s, scores, valid = implicit_rewards(beta, logps, ref_logps, scores, valid)
  return _weighed_sum(s, scores, valid)


def lipo_lambda_rax(
  logps: Array,
  ref_logps: Array,
  scores: Array,
  valid: Array,
  *,
  beta: float = 0.05,
) -> Array:
  """LiPO-lambda in the scale of the RAX library's defaults.

  l = mean over psi_i > psi_j of K Delta_ij (-log sigmoid(s_i - s_j)),
  Delta_ij = |2^psi_i - 2^psi_j| |1 / log2(1 + n_i) - 1 / log2(1 + n_j)|,
  s = beta log pi/ref,  psi = score,  n_i = rank of s_i, 1 for the highest

  For one list this is `lipo_lambda` times K ln 2 over the number of ordered
  pairs. K counts valid responses, whereas RAX counts empty slots too. The mean
  is over the list's pairs, whereas RAX takes the mean over all pairs of the
  batch. So here a list's loss depends neither on empty slots nor on other
  lists. For ties, constants and labels see `lipo_lambda`.

  Liu et al. 2024, "LiPO: Listwise Preference Optimization through
  Learning-to-Rank", arXiv:2402.01878.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    ref_logps: [B, K] logps under the reference; a constant.
    scores: [B, K] labels, higher is better; constants.
    valid: [B, K] bool, False where a list is shorter than K.
    beta: strength of the KL regularisation, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  s, scores, valid = implicit_rewards(beta, logps, ref_logps, scores, valid)
  size = valid.sum(-1).astype(s.dtype)
  pairs = outranks(scores, valid).sum((-2, -1)).astype(s.dtype)
  scale = math.log(2) * size / jnp.maximum(pairs, 1)
  return scale * _weighed_sum(s, scores, valid)


def _weighed_sum(s, scores, valid):
  """The sum of LiPO-lambda, with natural logarithms in the discounts."""
  ahead = precedes(jax.lax.stop_gradient(s), valid).sum(-2)
  discount = 1 / jnp.log1p(1 + ahead.astype(s.dtype))
  gain = jnp.exp2(jnp.minimum(scores, 64))
  weights = jnp.abs(differences(gain) * differences(discount))
  return sum_over_pairs(
    weights * jax.nn.softplus(-differences(s)), outranks(scores, valid)
  )
