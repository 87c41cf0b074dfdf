"""Likelihoods of the whole order of a list, best first."""

import jax.numpy as jnp

from jalign.losses._arrays import check_range
from jalign.losses.listwise._lists import (
  averages,
  differences,
  implicit_rewards,
  picked_first,
  precedes,
)
from jalign.types import Array


def list_mle(
  logps: Array,
  ref_logps: Array,
  scores: Array,
  valid: Array,
  *,
  beta: float = 0.05,
) -> Array:
  """ListMLE: the Plackett-Luce likelihood of the scores' order.

  l = -sum_k log( exp(s_k) / sum over j from k on of exp(s_j) ),
  s = beta log pi/ref,  responses by falling score

  Responses of equal score take their order in the list, which the loss then
  learns. A list of fewer than two responses has loss 0. For lists of two this
  is DPO.

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
  behind = precedes(scores, valid)
  logits = jnp.broadcast_to(s[..., None, :], behind.shape)
  return picked_first(logits, behind).sum(-1)


def pro(
  logps: Array,
  lengths: Array,
  scores: Array,
  valid: Array,
  *,
  beta_sft: float = 0.05,
) -> Array:
  """Preference ranking optimisation: each response against all worse ones.

  l = -sum_{k < n} log( e_kk / (e_kk + sum_{i > k} e_ki) )
  - beta_sft (n - 1)^2 log pi(y_1),
  e_ki = exp((r_k - r_i) p_i),  e_kk = exp((r_k - r_n) p_k),
  p = (log pi(y)) / |y|,  r = score, falling with k

  The log-prob of a worse response is scaled by its own gap to the better one;
  that of the better response by the largest gap. Gaps are constants, so that
  the scale of the scores matters. Equal scores have gap 0 and thus e = 1: such
  responses take their order in the list, and for n responses of equal score
  the ranking term is the constant log n!. A list of fewer than two responses
  has loss 0.

  The likelihood of the best response is a sum over its tokens. Its weight is
  the paper's, 0.05 (n - 1)^2; the authors' code is configured with 2 in place
  of 0.05. Their code computes exponentials and adds 1e-10 to them; here the
  logarithms are computed without either.

  Song et al. 2023, "Preference Ranking Optimization for Human Alignment",
  arXiv:2306.17492.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    lengths: [B, K] numbers of scored tokens of the responses.
    scores: [B, K] rewards, higher is better; constants.
    valid: [B, K] bool, False where a list is shorter than K.
    beta_sft: weight of the best response's likelihood, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta_sft", beta_sft, 0, ends="[)")
  average, logps, scores, valid = averages(logps, lengths, scores, valid)
  behind = precedes(scores, valid)
  gaps = jnp.where(behind, differences(scores), 0)
  own = jnp.eye(valid.shape[-1], dtype=bool)
  sharpness = jnp.where(own, gaps.max(-1, keepdims=True), gaps)
  ranking = picked_first(sharpness * average[..., None, :], behind).sum(-1)
  best = valid & ~behind.any(-2)
  likelihood = jnp.where(best, logps, 0).sum(-1)
  others = jnp.maximum(valid.sum(-1).astype(logps.dtype) - 1, 0)
  return ranking - beta_sft * others**2 * likelihood
