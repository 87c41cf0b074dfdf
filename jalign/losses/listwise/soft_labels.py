"""Losses whose label is a distribution over the responses of a list."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range
from jalign.losses.listwise._lists import implicit_rewards, log_softmax
from jalign.types import Array


def list_net(
  logps: Array,
  ref_logps: Array,
  scores: Array,
  valid: Array,
  *,
  beta: float = 0.05,
) -> Array:
  """ListNet: cross-entropy of a list's normalised labels and its softmax.

  l = -sum_k (psi_k / sum_j psi_j) log softmax_k(s),
  s = beta log pi/ref,  psi = score

  Labels are weights, so that a negative label counts as 0. A list whose labels
  are all 0, or that has fewer than two responses, has loss 0. The labels are
  normalised as in the paper; RAX's function doesn't normalise them.

  Liu et al. 2024, "LiPO: Listwise Preference Optimization through
  Learning-to-Rank", arXiv:2402.01878.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    ref_logps: [B, K] logps under the reference; a constant.
    scores: [B, K] labels >= 0; constants.
    valid: [B, K] bool, False where a list is shorter than K.
    beta: strength of the KL regularisation, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  s, scores, valid = implicit_rewards(beta, logps, ref_logps, scores, valid)
  labels = jnp.maximum(scores, 0)
  total = labels.sum(-1, keepdims=True)
  weights = labels / jnp.where(total > 0, total, 1)
  return -(weights * log_softmax(s, valid)).sum(-1)


def info_nca(
  logps: Array,
  ref_logps: Array,
  scores: Array,
  valid: Array,
  *,
  beta: float = 0.1,
  alpha: float = 1.0,
) -> Array:
  """InfoNCA: cross-entropy between softmaxes of given and implicit rewards.

  l = -sum_k softmax_k(R / alpha) log softmax_k(q),
  q = beta log pi/ref,  R = score

  As alpha falls to 0, the label approaches a hard label on the best response,
  and for two responses the loss approaches DPO. A list of fewer than two
  responses has loss 0. The authors' configuration for rewards is beta = 0.01
  and alpha = 1e-4, where the label is nearly hard; alpha = 1 leaves the scores
  as they are.

  Chen et al. 2024, "Noise Contrastive Alignment of Language Models with
  Explicit Rewards", arXiv:2402.05369.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    ref_logps: [B, K] logps under the reference; a constant.
    scores: [B, K] rewards, higher is better; constants.
    valid: [B, K] bool, False where a list is shorter than K.
    beta: strength of the KL regularisation, > 0.
    alpha: temperature of the rewards, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("alpha", alpha, 0)
  q, scores, valid = implicit_rewards(beta, logps, ref_logps, scores, valid)
  return -(_softmax(scores / alpha, valid) * log_softmax(q, valid)).sum(-1)


def nca_list(
  logps: Array,
  ref_logps: Array,
  scores: Array,
  valid: Array,
  *,
  beta: float = 0.1,
  alpha: float = 1.0,
) -> Array:
  """Noise contrastive alignment of a list: each reward is classified alone.

  l = -sum_k [softmax_k(R / alpha) log sigmoid(q_k) + log sigmoid(-q_k) / K],
  q = beta log pi/ref,  R = score

  K counts the valid responses. As alpha falls to 0, the label approaches a hard
  label on the best response, and for two responses the loss approaches `nca`. A
  list of fewer than two responses has loss 0. For the authors' settings see
  `info_nca`.

  Chen et al. 2024, "Noise Contrastive Alignment of Language Models with
  Explicit Rewards", arXiv:2402.05369.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    ref_logps: [B, K] logps under the reference; a constant.
    scores: [B, K] rewards, higher is better; constants.
    valid: [B, K] bool, False where a list is shorter than K.
    beta: strength of the KL regularisation, > 0.
    alpha: temperature of the rewards, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("alpha", alpha, 0)
  q, scores, valid = implicit_rewards(beta, logps, ref_logps, scores, valid)
  size = valid.sum(-1).astype(q.dtype)
  data = (_softmax(scores / alpha, valid) * jax.nn.softplus(-q)).sum(-1)
  noise = jnp.where(valid, jax.nn.softplus(q), 0).sum(-1)
  return jnp.where(size > 1, data + noise / jnp.maximum(size, 1), 0)


def exo_list(
  logps: Array,
  ref_logps: Array,
  scores: Array,
  valid: Array,
  *,
  beta: float = 0.1,
  beta_r: float = 0.1,
) -> Array:
  """Efficient exact optimisation of a list: KL from the model to the rewards.

  l = sum_k m_k log(m_k / t_k),
  m = softmax(beta log pi/ref),  t = softmax(R / beta_r),  R = score

  The minimum is 0, where beta log pi/ref equals R / beta_r up to a constant.
  InfoNCA uses the KL in the other direction. Two responses with rewards
  beta_r log((1 - e) / e) and 0 give `exo`. A list of fewer than two responses
  has loss 0. The authors set beta and beta_r to 0.1 on IMDb and to 0.5 on TL;DR
  and HH.

  Ji et al. 2024, "Towards Efficient Exact Optimization of Language Model
  Alignment", arXiv:2402.00856.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    ref_logps: [B, K] logps under the reference; a constant.
    scores: [B, K] rewards, higher is better; constants.
    valid: [B, K] bool, False where a list is shorter than K.
    beta: scale of the policy's log-ratios, > 0.
    beta_r: temperature of the rewards, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta_r", beta_r, 0)
  q, scores, valid = implicit_rewards(beta, logps, ref_logps, scores, valid)
  model, target = log_softmax(q, valid), log_softmax(scores / beta_r, valid)
  return (jnp.exp(model) * (model - target)).sum(-1)  # 0 where not valid


def _softmax(x, valid):
  return jnp.where(valid, jnp.exp(log_softmax(x, valid)), 0)
