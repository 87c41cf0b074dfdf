"""Coefficients of jalign.losses.pairwise.reward."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import log_ratios
from jalign.types import Array


def _bell(z: Array) -> Array:
  """The slope of the sigmoid."""
  return jax.nn.sigmoid(z) * jax.nn.sigmoid(-z)


def nca(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
) -> tuple[Array, Array]:
  """d_w = beta (1 - 3/2 sigmoid(q_w)), d_l = beta sigmoid(q_l) / 2.

  See jalign.losses.nca.
  """
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  sigmoid = jax.nn.sigmoid
  d_w = beta * (sigmoid(-beta * up) - sigmoid(beta * up) / 2)
  return d_w, beta * sigmoid(beta * down) / 2


def apo_zero(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
) -> tuple[Array, Array]:
  """d = beta sigmoid'(q).

  See jalign.losses.apo_zero.
  """
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  return beta * _bell(beta * up), beta * _bell(beta * down)


def apo_down(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
) -> tuple[Array, Array]:
  """d_l = beta sigmoid'(q_w - q_l), d_w = d_l - beta sigmoid'(q_w).

  See jalign.losses.apo_down.
  """
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  d = beta * _bell(beta * (up - down))
  return d - beta * _bell(beta * up), d


def exo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
  label_smoothing: float = 1e-3,
) -> tuple[Array, Array]:
  """d_w = d_l = beta sigmoid'(z) (log((1 - e) / e) - z), z = beta h.

  See jalign.losses.exo.
  """
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  z = beta * (up - down)
  target = jnp.log1p(-label_smoothing) - jnp.log(label_smoothing)
  d = beta * _bell(z) * (target - z)
  return d, d


def discopop(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.05,
  tau: float = 0.05,
) -> tuple[Array, Array]:
  """d_w = d_l = beta ((1 - m) sigmoid(-z) + m e^-z - m' (e^-z - n)).

  m' = dm/dz and n = -log sigmoid(z). See jalign.losses.discopop.
  """
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  z = beta * (up - down)
  rest = jax.nn.sigmoid(-z / tau)
  # m exp(-z), whose factors are 0 and infinity at very negative z
  rising = jnp.exp(jax.nn.log_sigmoid(z / tau) - z)
  gate = (rest * rising + _bell(z / tau) * jax.nn.log_sigmoid(z)) / tau
  d = beta * (rest * jax.nn.sigmoid(-z) + rising - gate)
  return d, d
