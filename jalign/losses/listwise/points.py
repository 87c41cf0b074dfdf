"""LiPO's pointwise losses: each response is regressed on its own label."""

import jax
import jax.numpy as jnp

from jalign.losses.listwise._lists import implicit_rewards
from jalign.types import Array


def point_mse(
  logps: Array,
  ref_logps: Array,
  scores: Array,
  valid: Array,
  *,
  beta: float = 0.05,
) -> Array:
  """Squared distance of each implicit reward to its label.

  l = sum_k (psi_k - s_k)^2,  s = beta log pi/ref,  psi = score

  The loss changes if the scores are shifted by a constant. A list of one
  response counts; an empty list has loss 0.

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
  return ((scores - s) ** 2).sum(-1)  # both are 0 for invalid responses


def point_sigmoid(
  logps: Array,
  ref_logps: Array,
  scores: Array,
  valid: Array,
  *,
  beta: float = 0.05,
) -> Array:
  """Cross-entropy of each implicit reward's sigmoid with its label.

  l = -sum_k [psi_k log sigmoid(s_k) + (1 - psi_k) log sigmoid(-s_k)],
  s = beta log pi/ref,  psi = score

  Labels are probabilities. A label outside [0, 1] is accepted, but then the
  loss has no minimum. A list of one response counts; an empty list has loss 0.

  Liu et al. 2024, "LiPO: Listwise Preference Optimization through
  Learning-to-Rank", arXiv:2402.01878.

  Args:
    logps: [B, K] summed response log-probs (nats) under the policy.
    ref_logps: [B, K] logps under the reference; a constant.
    scores: [B, K] labels in [0, 1]; constants.
    valid: [B, K] bool, False where a list is shorter than K.
    beta: strength of the KL regularisation, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  s, scores, valid = implicit_rewards(beta, logps, ref_logps, scores, valid)
  entropies = scores * jax.nn.softplus(-s) + (1 - scores) * jax.nn.softplus(s)
  return jnp.where(valid, entropies, 0).sum(-1)
