"""Coefficients of jalign.losses.pairwise.sigmoid."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import log_ratios, per_token, same_floats
from jalign.types import Array


def dpo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
  label_smoothing: float = 0.0,
) -> tuple[Array, Array]:
  """d_w = d_l = beta (sigmoid(-beta h) - e).

  See jalign.losses.dpo.
  """
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  d = beta * (jax.nn.sigmoid(-beta * (up - down)) - label_smoothing)
  return d, d


def robust_dpo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
  label_smoothing: float = 0.1,
) -> tuple[Array, Array]:
  """d_w = d_l = beta (sigmoid(-beta h) + e / (1 - 2 e)).

  See jalign.losses.robust_dpo.
  """
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  floor = label_smoothing / (1 - 2 * label_smoothing)
  d = beta * (jax.nn.sigmoid(-beta * (up - down)) + floor)
  return d, d


def dpop(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.3,
  lam: float = 50.0,
) -> tuple[Array, Array]:
  """d_l = beta sigmoid(-z), d_w = (1 + lam [r_w < 0]) d_l.

  z is what the loss's sigmoid has. See jalign.losses.dpop.
  """
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  z = beta * (up - down - lam * jax.nn.relu(-up))
  d = beta * jax.nn.sigmoid(-z)
  return jnp.where(up < 0, (1 + lam) * d, d), d


def simpo(
  chosen_logps: Array,
  rejected_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  beta: float = 2.0,
  gamma: float = 0.5,
) -> tuple[Array, Array]:
  """d = beta sigmoid(-z) / |y|, z in the loss's sigmoid.

  See jalign.losses.simpo.
  """
  chosen, rejected, chosen_lengths, rejected_lengths = same_floats(
    chosen_logps, rejected_logps, chosen_lengths, rejected_lengths
  )
  margin = per_token(chosen, chosen_lengths)
  margin -= per_token(rejected, rejected_lengths)
  d = beta * jax.nn.sigmoid(gamma - beta * margin)
  return per_token(d, chosen_lengths), per_token(d, rejected_lengths)


def cpo(
  chosen_logps: Array,
  rejected_logps: Array,
  chosen_lengths: Array,
  *,
  beta: float = 0.1,
  alpha: float = 1.0,
) -> tuple[Array, Array]:
  """d_l = beta sigmoid(-beta (log pi_w - log pi_l)), d_w = d_l + alpha / |y_w|.

  See jalign.losses.cpo.
  """
  chosen, rejected, lengths = same_floats(
    chosen_logps, rejected_logps, chosen_lengths
  )
  d = beta * jax.nn.sigmoid(-beta * (chosen - rejected))
  return d + alpha * per_token(jnp.ones_like(d), lengths), d


def dpo_soft(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  preference: Array,
  *,
  beta: float = 0.1,
) -> tuple[Array, Array]:
  """d_w = d_l = beta (p - sigmoid(beta h)).

  See jalign.losses.dpo_soft.
  """
  up, down, preference = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    preference,
  )
  d = beta * (preference - jax.nn.sigmoid(beta * (up - down)))
  return d, d
