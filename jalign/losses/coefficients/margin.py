"""Coefficients of jalign.losses.pairwise.margin; 0 at a hinge's kink."""

import jax.numpy as jnp

from jalign.losses._arrays import log_ratios, same_floats
from jalign.types import Array


def slic_hf(
  chosen_logps: Array,
  rejected_logps: Array,
  *,
  delta: float = 1.0,
  lam: float = 0.1,
) -> tuple[Array, Array]:
  """d_l = [log pi_w - log pi_l < delta], d_w = d_l + lam.

  See jalign.losses.slic_hf.
  """
  chosen, rejected = same_floats(chosen_logps, rejected_logps)
  d = (delta - chosen + rejected > 0).astype(chosen.dtype)
  return d + lam, d


def slic_ratio(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
) -> tuple[Array, Array]:
  """d_w = d_l = beta [beta h < 1].

  See jalign.losses.slic_ratio.
  """
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  d = jnp.where(1 - beta * (up - down) > 0, beta, jnp.zeros_like(up))
  return d, d
