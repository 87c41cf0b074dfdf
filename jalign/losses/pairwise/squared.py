"""Losses that regress a margin on a target."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import (
  check_range,
  log_ratios,
  per_token,
  same_floats,
)
from jalign.types import Array


def ipo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  tau: float = 0.1,
) -> Array:
  """Identity preference optimisation: regresses the margin on 1 / (2 tau).

  l = (h - 1 / (2 tau))^2,  h = (log pi/ref)(y_w) - (log pi/ref)(y_l)

  Log-probs are sums, as in the paper's equation. Much other code divides them
  by the lengths: see `ipo_avg`, for which tau has another scale.

  Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from
  Human Preferences", arXiv:2310.12036, eq. 17.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    tau: strength of the regularisation, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: tau is out of range.
  """
  check_range("tau", tau, 0)
  chosen, rejected, ref_chosen, ref_rejected = same_floats(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  reference = jax.lax.stop_gradient(ref_chosen - ref_rejected)
  return jnp.square(chosen - rejected - reference - 1 / (2 * tau))


def ipo_avg(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  tau: float = 0.1,
) -> Array:
  """IPO on log-ratios per token.

  l = (r_w / |y_w| - r_l / |y_l| - 1 / (2 tau))^2,  r = log pi/ref

  Several libraries use this form on the advice of the paper's authors; the
  paper's equation has sums (`ipo`). With the same tau, the margin that this
  loss asks for is larger by a factor of the length.

  Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from
  Human Preferences", arXiv:2310.12036, eq. 17 on averages.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    chosen_lengths: [B] numbers of scored tokens of the chosen responses.
    rejected_lengths: [B] the same for the dispreferred responses.
    tau: strength of the regularisation, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: tau is out of range.
  """
  check_range("tau", tau, 0)
  (
    chosen,
    rejected,
    ref_chosen,
    ref_rejected,
    chosen_lengths,
    rejected_lengths,
  ) = same_floats(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    chosen_lengths,
    rejected_lengths,
  )
  up = chosen - jax.lax.stop_gradient(ref_chosen)
  down = rejected - jax.lax.stop_gradient(ref_rejected)
  margin = per_token(up, chosen_lengths) - per_token(down, rejected_lengths)
  return jnp.square(margin - 1 / (2 * tau))


def ipo_soft(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  preference: Array,
  *,
  tau: float = 0.1,
) -> Array:
  """IPO for a known preference probability in place of a label.

  l = p (h - 1 / (2 tau))^2 + (1 - p) (h + 1 / (2 tau))^2,
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l),  p = P(y_w > y_l)

  This is the expectation of IPO's loss over the label, with its minimum at
  h = (p - 1/2) / tau. Gradients do not flow into the preference.

  Calandriello et al. 2024, "Human Alignment of Large Language Models through
  Online Preference Optimisation", arXiv:2403.08635 (its Online IPO and IPO-MD).

  Args:
    chosen_logps: [B] summed log-probs (nats) of the first responses under the
      policy.
    rejected_logps: [B] the same for the second responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    preference: [B] P(first > second) in [0, 1]; a constant.
    tau: strength of the regularisation, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: tau is out of range.
  """
  check_range("tau", tau, 0)
  chosen, rejected, ref_chosen, ref_rejected, preference = same_floats(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    preference,
  )
  preference = jax.lax.stop_gradient(preference)
  reference = jax.lax.stop_gradient(ref_chosen - ref_rejected)
  margin, target = chosen - rejected - reference, 1 / (2 * tau)
  won, lost = jnp.square(margin - target), jnp.square(margin + target)
  return preference * won + (1 - preference) * lost


def sppo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 1e-3,
) -> Array:
  """Self-play preference optimisation with hard labels: a target per response.

  l = (r_w - 1 / (2 beta))^2 + (r_l + 1 / (2 beta))^2,  r = log pi/ref

  The loss is the sum of the two squares; the authors' code halves the sum.

  Wu et al. 2024, "Self-Play Preference Optimization for Language Model
  Alignment", arXiv:2405.00675.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    beta: strength of the KL regularisation, > 0; 1 / the paper's eta.

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
  target = 1 / (2 * beta)
  return jnp.square(up - target) + jnp.square(down + target)


def sppo_soft(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  preference: Array,
  *,
  beta: float = 1e-3,
) -> Array:
  """Self-play preference optimisation with a known preference probability.

  l = (r_w - (p - 1/2) / beta)^2 + (r_l + (p - 1/2) / beta)^2,
  r = log pi/ref,  p = P(y_w > y_l)

  The paper's p is the probability that a response beats the policy. Here p is
  the probability that it beats the other response of the pair, which is our
  reading for pairs; at p = 1 this is `sppo`. Gradients do not flow into the
  preference.

  Wu et al. 2024, "Self-Play Preference Optimization for Language Model
  Alignment", arXiv:2405.00675.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    preference: [B] P(first > second) in [0, 1]; a constant.
    beta: strength of the KL regularisation, > 0; 1 / the paper's eta.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  up, down, preference = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    preference,
  )
  target = (jax.lax.stop_gradient(preference) - 0.5) / beta
  return jnp.square(up - target) + jnp.square(down + target)
