"""DPO with several objectives, a reward model's margins, or two betas."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.losses._arrays import (
  as_floats,
  check_range,
  equal_floats,
  log_ratios,
)
from jalign.types import Array


def modpo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  chosen_margin_scores: Array,
  rejected_margin_scores: Array,
  *,
  beta: float = 0.1,
  weights: tuple[float, ...] = (0.5, 0.5),
) -> Array:
  """Multi-objective DPO: frozen rewards represent the other objectives.

  l = -log sigmoid((beta h - sum_m w_m (s_m(y_w) - s_m(y_l))) / w_0),
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l),  w = weights,  m = 1 .. M

  w_0 is the weight of the objective by which the pairs are labelled,
  w_1 .. w_M are those of the margin rewards s. A small w_0 makes gradients
  large. w = (1, 0, ...) gives DPO; for pairs whose margin rewards are equal
  this is DPO with beta / w_0. Where a margin reward is beta' log(pi'/ref) of
  another model pi', use that model's beta'. Gradients do not flow into the
  margin scores.

  Zhou et al. 2023, "Beyond One-Preference-Fits-All Alignment: Multi-Objective
  Direct Preference Optimization", arXiv:2310.03708.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    chosen_margin_scores: [B, M] rewards of the chosen responses in the M other
      objectives; a constant.
    rejected_margin_scores: [B, M] the same for the dispreferred responses.
    beta: strength of the KL regularisation, > 0.
    weights: M + 1 numbers in [0, 1] with sum 1, the first of them > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range, or there aren't M + 1 weights.
  """
  check_range("beta", beta, 0)
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  above, below = equal_floats(chosen_margin_scores, rejected_margin_scores)
  chex.assert_shape(above, (*up.shape, None))
  _check_weights(weights, above.shape[-1] + 1)
  up, down, above, below = as_floats(up, down, above, below)
  w = jnp.asarray(weights, up.dtype)
  gaps = jax.lax.stop_gradient(above - below)
  # a sum, not a matmul, whose precision the device would choose
  z = (beta * (up - down) - jnp.sum(w[1:] * gaps, -1)) / w[0]
  return jax.nn.softplus(-z)


def _check_weights(weights, count):
  """Refuses weights off the simplex; checks only the shape of jax arrays."""
  interval = f"{count} numbers in [0, 1] that sum to 1, the first of them > 0"
  traced = any(isinstance(x, jax.Array) for x in jax.tree.leaves(weights))
  try:
    known = np.ones(np.shape(weights)) if traced else np.asarray(weights, float)
  except (TypeError, ValueError):
    known = np.zeros(0)
  good = known.shape == (count,)
  if good and not traced:
    # also for NaN
    good = known[0] > 0 and known.min() >= 0 and abs(known.sum() - 1) < 1e-6
  if not good:
    raise UserError(f"weights must be {interval}, but is {weights!r}.")


def mm_dpo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  chosen_scores: Array,
  rejected_scores: Array,
  *,
  beta: float = 0.1,
  w: float = 0.5,
  k: float = 0.5,
) -> Array:
  """DPO whose beta grows with the margin of a reward model.

  l = -log sigmoid(b h),
  b = beta (1 + w (1 - exp(-k max(0, s_w - s_l)))),
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l),  s = score

  b is beta for pairs whose scores are tied or contradict the label, and grows
  up to (1 + w) beta. Gradients do not flow into the scores. The defaults here
  are the paper's values; the released code reads 1 - exp(-k (s_w - s_l)) from
  the data, and its default is w = 0. To add the paper's likelihood term, see
  `weighted_sum`.

  Zhang et al. 2025, "MM-RLHF: The Next Step Forward in Multimodal LLM
  Alignment", arXiv:2502.10391.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    chosen_scores: [B] rewards of the chosen responses; a constant.
    rejected_scores: [B] the same for the dispreferred responses.
    beta: least strength of the KL regularisation, > 0.
    w: largest relative growth of beta, >= 0.
    k: rate of that growth per unit of score, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("w", w, 0, ends="[)")
  check_range("k", k, 0)
  up, down, chosen_scores, rejected_scores = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    chosen_scores,
    rejected_scores,
  )
  gap = jax.lax.stop_gradient(chosen_scores - rejected_scores)
  strength = beta * (1 - w * jnp.expm1(-k * jnp.maximum(gap, 0)))
  return jax.nn.softplus(-strength * (up - down))


def flex_dpo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta_chosen: float = 0.1,
  beta_rejected: float = 0.05,
) -> Array:
  """DPO with one beta for the chosen and another for the rejected response.

  l = -log sigmoid(beta_w r_w - beta_l r_l),
  r = log pi/ref,  beta_w = beta_chosen,  beta_l = beta_rejected

  A smaller beta_rejected slows the fall of the rejected response's log-prob.
  With equal betas this is DPO. With different betas a term that depends only on
  the prompt doesn't cancel between the log-ratios.

  Yan et al. 2024, "3D-Properties: Identifying Challenges in DPO and Charting a
  Path Forward", arXiv:2406.07327.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    beta_chosen: factor on the chosen log-ratio, > 0. Both betas' defaults are
      our choice.
    beta_rejected: factor on the rejected log-ratio, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta_chosen", beta_chosen, 0)
  check_range("beta_rejected", beta_rejected, 0)
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  return jax.nn.softplus(beta_rejected * down - beta_chosen * up)
