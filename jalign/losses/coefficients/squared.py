"""Coefficients of jalign.losses.pairwise.squared."""

from jalign.losses._arrays import log_ratios, per_token
from jalign.types import Array


def ipo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  tau: float = 0.1,
) -> tuple[Array, Array]:
  """d_w = d_l = 2 (1 / (2 tau) - h).

  See jalign.losses.ipo.
  """
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  d = 1 / tau - 2 * (up - down)
  return d, d


def ipo_avg(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  tau: float = 0.1,
) -> tuple[Array, Array]:
  """d = 2 (1 / (2 tau) - margin) / |y|.

  See jalign.losses.ipo_avg.
  """
  up, down, chosen_lengths, rejected_lengths = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    chosen_lengths,
    rejected_lengths,
  )
  margin = per_token(up, chosen_lengths) - per_token(down, rejected_lengths)
  d = 1 / tau - 2 * margin
  return per_token(d, chosen_lengths), per_token(d, rejected_lengths)


def ipo_soft(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  preference: Array,
  *,
  tau: float = 0.1,
) -> tuple[Array, Array]:
  """d_w = d_l = 2 ((p - 1/2) / tau - h).

  See jalign.losses.ipo_soft.
  """
  up, down, preference = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    preference,
  )
  d = 2 * ((preference - 0.5) / tau - (up - down))
  return d, d


def sppo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 1e-3,
) -> tuple[Array, Array]:
  """d_w = 2 (1 / (2 beta) - r_w), d_l = 2 (r_l + 1 / (2 beta)).

  See jalign.losses.sppo.
  """
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  return 1 / beta - 2 * up, 1 / beta + 2 * down


def sppo_soft(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  preference: Array,
  *,
  beta: float = 1e-3,
) -> tuple[Array, Array]:
  """d_w = 2 (target - r_w), d_l = 2 (r_l + target), target = (p - 1/2) / beta.

  See jalign.losses.sppo_soft.
  """
  up, down, preference = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    preference,
  )
  target = (preference - 0.5) / beta
  return 2 * (target - up), 2 * (down + target)
