"""Losses that regress a margin on a target."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, per_token, same_floats
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

  Sums of log-probs, as the paper's equation has them. Much other code divides
  by the lengths: see `ipo_avg`, for which tau is another quantity.

  Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from
  Human Preferences", arXiv:2310.12036, eq. 17.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] under the reference; a constant.
    ref_rejected_logps: [B] under the reference; a constant.
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

  The form of several libraries, on the authors' word; the paper's equation has
  sums (`ipo`). The same tau asks for a margin larger by the length.

  Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from
  Human Preferences", arXiv:2310.12036, eq. 17 on averages.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] under the reference; a constant.
    ref_rejected_logps: [B] under the reference; a constant.
    chosen_lengths: [B] scored tokens of the chosen responses.
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
  """IPO for a known preference probability in place of a drawn label.

  l = p (h - 1 / (2 tau))^2 + (1 - p) (h + 1 / (2 tau))^2,
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l),  p = P(y_w > y_l)

  The mean of IPO over the label; least at h = (p - 1/2) / tau. Gradients do
  not flow into the preference.

  Calandriello et al. 2024, "Human Alignment of Large Language Models through
  Online Preference Optimisation", arXiv:2403.08635 (its Online IPO and IPO-MD).

  Args:
    chosen_logps: [B] summed log-probs (nats) of the first responses under the
      policy.
    rejected_logps: [B] the same for the second responses.
    ref_chosen_logps: [B] under the reference; a constant.
    ref_rejected_logps: [B] under the reference; a constant.
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
