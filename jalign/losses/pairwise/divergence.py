"""DPO with other divergences: transformed log-ratios or log-probs."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import (
  at_most,
  check_range,
  log_ratios,
  per_token,
  same_floats,
)
from jalign.types import Array

# Upper bound on exponents: exp(80), times beta, is finite in float32.
_MAX_EXPONENT = 80.0


def _bent(z: Array, alpha: float) -> Array:
  """(1 - exp(-alpha z)) / alpha; constant where the exponent is above 80."""
  return -jnp.expm1(at_most(-alpha * z, _MAX_EXPONENT)) / alpha


def f_dpo_forward_kl(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
) -> Array:
  """f-DPO with the forward KL: DPO regularised by KL(reference || policy).

  l = -log sigmoid(beta (1 / u_l - 1 / u_w)),  u = pi / ref

  A response that the policy has made very unlikely gets a steep gradient, 1 / u
  times that of DPO. Where log u is below -80, 1 / u counts as exp(80) and has
  no gradient.

  Wang et al. 2023, "Beyond Reverse KL: Generalizing Direct Preference
  Optimization with Diverse Divergence Constraints", arXiv:2309.16240.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    beta: strength of the KL regularisation, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  return jax.nn.softplus(-beta * (_bent(up, 1.0) - _bent(down, 1.0)))


def f_dpo_js(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
) -> Array:
  """f-DPO with the Jensen-Shannon divergence as the regulariser.

  l = -log sigmoid(beta (g(u_w) - g(u_l))),
  g(u) = log(2 u / (1 + u)),  u = pi / ref

  g is at most log 2: a response that is far likelier than under the reference
  gets almost no gradient.

  Wang et al. 2023, "Beyond Reverse KL: Generalizing Direct Preference
  Optimization with Diverse Divergence Constraints", arXiv:2309.16240.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    beta: strength of the KL regularisation, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  bend = jax.nn.log_sigmoid
  return jax.nn.softplus(-beta * (bend(up) - bend(down)))


def f_dpo_alpha(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
  alpha: float = 0.5,
) -> Array:
  """f-DPO with an alpha-divergence as the regulariser.

  l = -log sigmoid(beta (g(u_w) - g(u_l))),
  g(u) = (1 - u^-alpha) / alpha,  u = pi / ref

  alpha is the paper's: towards 0 the loss is DPO, towards 1 it is
  `f_dpo_forward_kl`. Other code has (u^(a - 1) - 1) / (a - 1), where a is
  1 - alpha. Where -alpha log u is above 80, it counts as 80 and has no
  gradient.

  Wang et al. 2023, "Beyond Reverse KL: Generalizing Direct Preference
  Optimization with Diverse Divergence Constraints", arXiv:2309.16240.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    beta: strength of the KL regularisation, > 0.
    alpha: order of the divergence, in (0, 1).

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("alpha", alpha, 0, 1)
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  margin = _bent(up, alpha) - _bent(down, alpha)
  return jax.nn.softplus(-beta * margin)


def alpha_po(
  chosen_logps: Array,
  rejected_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  beta: float = 2.0,
  gamma: float = 0.5,
  alpha: float = 0.25,
) -> Array:
  """AlphaPO: SimPO with a reward that is steeper for improbable responses.

  l = -log sigmoid(beta (g(p_w) - g(p_l)) - gamma),
  g(p) = (1 - p^-alpha) / alpha,  p = pi(y)^(1 / |y|)

  Towards alpha = 0 this is `simpo`, from which the defaults of beta and gamma
  are taken; the default of alpha is our choice. Where -alpha log p is above 80,
  it counts as 80 and has no gradient.

  Gupta et al. 2025, "AlphaPO: Reward Shape Matters for LLM Alignment",
  arXiv:2501.03884.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    chosen_lengths: [B] numbers of scored tokens of the chosen responses.
    rejected_lengths: [B] the same for the dispreferred responses.
    beta: scale of the reward, > 0.
    gamma: margin between the rewards, >= 0.
    alpha: shape of the reward, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("gamma", gamma, 0, ends="[)")
  check_range("alpha", alpha, 0)
  chosen, rejected, chosen_lengths, rejected_lengths = same_floats(
    chosen_logps, rejected_logps, chosen_lengths, rejected_lengths
  )
  margin = _bent(per_token(chosen, chosen_lengths), alpha)
  margin -= _bent(per_token(rejected, rejected_lengths), alpha)
  return jax.nn.softplus(gamma - beta * margin)
