"""Pairwise losses with a hinge."""

import jax.numpy as jnp

from jalign.losses._arrays import check_range, log_ratios, same_floats
from jalign.types import Array


def slic_hf(
  chosen_logps: Array,
  rejected_logps: Array,
  *,
  delta: float = 1.0,
  lam: float = 0.1,
) -> Array:
  """Sequence likelihood calibration (SLiC-HF): a hinge on log-probs, plus SFT.

  l = max(0, delta - log pi(y_w) + log pi(y_l)) - lam log pi(y_w)

  The regulariser is the summed log-prob of the chosen response, in place of the
  paper's SFT target. At the kink the hinge's sub-gradient is 0.

  Zhao et al. 2023, "SLiC-HF: Sequence Likelihood Calibration with Human
  Feedback", arXiv:2305.10425, eq. 1.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    delta: margin in nats, >= 0. The defaults of delta and lam are those of the
      HALOs code; we don't know which values the paper used.
    lam: weight of the likelihood, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("delta", delta, 0, ends="[)")
  check_range("lam", lam, 0, ends="[)")
  chosen, rejected = same_floats(chosen_logps, rejected_logps)
  short = delta - chosen + rejected
  return jnp.where(short > 0, short, 0.0) - lam * chosen


def slic_ratio(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
) -> Array:
  """SLiC normalised by the reference: a hinge on the margin of log-ratios.

  l = max(0, 1 - beta h),  h = (log pi/ref)(y_w) - (log pi/ref)(y_l)

  At the kink the hinge's sub-gradient is 0.

  Liu et al. 2023, "Statistical Rejection Sampling Improves Preference
  Optimization", arXiv:2309.06657 (its SLiC-norm).

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    beta: inverse of the margin in nats, > 0; the default is ours.

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
  short = 1 - beta * (up - down)
  return jnp.where(short > 0, short, 0.0)
