"""Losses on implicit rewards, beta log(pi / ref), beyond the logistic loss."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, log_ratios
from jalign.types import Array


def nca(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
) -> Array:
  """Noise contrastive alignment of a pair: the chosen reward stays finite.

  l = -log sigmoid(q_w) - (log sigmoid(-q_w) + log sigmoid(-q_l)) / 2,
  q = beta log pi/ref

  The 1/2 is 1 / K for the K = 2 responses of a pair. The loss has its minimum
  in q_w at log 2; above that the chosen response is pulled back.

  Chen et al. 2024, "Noise Contrastive Alignment of Language Models with
  Explicit Rewards", arXiv:2402.05369.

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
  up, down = beta * up, beta * down
  noise = jax.nn.softplus(up) + jax.nn.softplus(down)
  return jax.nn.softplus(-up) + noise / 2


def apo_zero(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
) -> Array:
  """Anchored preference optimisation for data better than the policy.

  l = 1 - sigmoid(q_w) + sigmoid(q_l),  q = beta log pi/ref

  The loss raises the log-ratio of the chosen response and lowers that of the
  rejected response. It uses sigmoids without a logarithm, so that the gradient
  vanishes for very large and for very small log-ratios.

  D'Oosterlinck et al. 2024, "Anchored Preference Optimization and Contrastive
  Revisions: Addressing Underspecification in Alignment", arXiv:2408.06266,
  eq. 7.

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
  return jax.nn.sigmoid(-beta * up) + jax.nn.sigmoid(beta * down)


def apo_down(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
) -> Array:
  """Anchored preference optimisation for data worse than the policy.

  l = sigmoid(q_w) + 1 - sigmoid(q_w - q_l),  q = beta log pi/ref

  The loss lowers the log-ratio of the chosen response and keeps it above that
  of the rejected response.

  D'Oosterlinck et al. 2024, "Anchored Preference Optimization and Contrastive
  Revisions: Addressing Underspecification in Alignment", arXiv:2408.06266,
  eq. 8.

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
  return jax.nn.sigmoid(beta * up) + jax.nn.sigmoid(beta * (down - up))


def exo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
  label_smoothing: float = 1e-3,
) -> Array:
  """Efficient exact optimisation of a pair: KL from the model to the label.

  l = q log(q / (1 - e)) + (1 - q) log((1 - q) / e),
  q = sigmoid(beta h),  h = (log pi/ref)(y_w) - (log pi/ref)(y_l),
  e = label_smoothing

  DPO minimises the KL in the other direction. Here the gradient also vanishes
  for a pair that is ranked very wrongly. The minimum is 0, at
  beta h = log((1 - e) / e).

  Ji et al. 2024, "Towards Efficient Exact Optimization of Language Model
  Alignment", arXiv:2402.00856.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    beta: strength of the KL regularisation, > 0.
    label_smoothing: e, assumed rate of flipped labels, in (0, 0.5).

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("label_smoothing", label_smoothing, 0, 0.5)
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  z = beta * (up - down)
  unflipped = jax.nn.log_sigmoid(z) - jnp.log1p(-label_smoothing)
  flipped = jax.nn.log_sigmoid(-z) - jnp.log(label_smoothing)
  return jax.nn.sigmoid(z) * unflipped + jax.nn.sigmoid(-z) * flipped


def discopop(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.05,
  tau: float = 0.05,
) -> Array:
  """DiscoPOP's loss: logistic and exponential losses, mixed by the margin.

  l = (1 - m) (-log sigmoid(z)) + m exp(-z),
  m = sigmoid(z / tau),  z = beta h,
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l)

  The loss isn't convex: at tau = 0.05 it has a minimum at z = -0.1186 and a
  maximum at z = 0.0720, and pairs in between are pushed the wrong way.

  Lu et al. 2024, "Discovering Preference Optimization Algorithms with and for
  Large Language Models", arXiv:2406.08414.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    beta: scale of the margin, > 0.
    tau: temperature of the gate, in (0, 1].

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("tau", tau, 0, 1, ends="(]")
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  z = beta * (up - down)
  logistic = jax.nn.sigmoid(-z / tau) * jax.nn.softplus(-z)
  # m exp(-z) in one exponential: at very negative z its factors are 0 and
  # infinity
  return logistic + jnp.exp(jax.nn.log_sigmoid(z / tau) - z)
