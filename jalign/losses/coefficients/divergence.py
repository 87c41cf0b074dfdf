"""Coefficients of jalign.losses.pairwise.divergence."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import log_ratios, per_token, same_floats
from jalign.losses.pairwise.divergence import _MAX_EXPONENT, _bent
from jalign.types import Array


def _of_bent(up, down, beta, alpha, gamma=0.0) -> tuple[Array, Array]:
  """From `_bent` rewards, whose slope is exp(-alpha z), and 0 where flat."""
  margin = _bent(up, alpha) - _bent(down, alpha)
  d = beta * jax.nn.sigmoid(gamma - beta * margin)

  def slope(z):
    high = -alpha * z > _MAX_EXPONENT
    return jnp.where(high, 0.0, jnp.exp(jnp.where(high, 0.0, -alpha * z)))

  return d * slope(up), d * slope(down)


def f_dpo_forward_kl(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
) -> tuple[Array, Array]:
  """d = c / u, c = beta sigmoid(-z), z in the loss's sigmoid.

  See jalign.losses.f_dpo_forward_kl.
  """
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  return _of_bent(up, down, beta, 1.0)


def f_dpo_js(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
) -> tuple[Array, Array]:
  """d = c / (1 + u), c = beta sigmoid(-z), z in the loss's sigmoid.

  See jalign.losses.f_dpo_js.
  """
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  margin = jax.nn.log_sigmoid(up) - jax.nn.log_sigmoid(down)
  d = beta * jax.nn.sigmoid(-beta * margin)
  return d * jax.nn.sigmoid(-up), d * jax.nn.sigmoid(-down)


def f_dpo_alpha(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
  alpha: float = 0.5,
) -> tuple[Array, Array]:
  """d = c u^-alpha, c = beta sigmoid(-z), z in the loss's sigmoid.

  See jalign.losses.f_dpo_alpha.
  """
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  return _of_bent(up, down, beta, alpha)


def alpha_po(
  chosen_logps: Array,
  rejected_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  beta: float = 2.0,
  gamma: float = 0.5,
  alpha: float = 0.25,
) -> tuple[Array, Array]:
  """d = c p^-alpha / |y|, c = beta sigmoid(-z), z in the loss's sigmoid.

  See jalign.losses.alpha_po.
  """
  chosen, rejected, chosen_lengths, rejected_lengths = same_floats(
    chosen_logps, rejected_logps, chosen_lengths, rejected_lengths
  )
  up = per_token(chosen, chosen_lengths)
  down = per_token(rejected, rejected_lengths)
  d_w, d_l = _of_bent(up, down, beta, alpha, gamma)
  return per_token(d_w, chosen_lengths), per_token(d_l, rejected_lengths)
