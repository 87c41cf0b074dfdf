"""Coefficients of jalign.losses.pairwise.odds."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import per_token, same_floats
from jalign.losses.pairwise.odds import _MAX_MEAN_LOGP, _log_odds
from jalign.types import Array


def _log_odds_slope(mean_logp: Array) -> Array:
  """1 / (1 - P); 0 where P counts as certain."""
  certain = mean_logp >= _MAX_MEAN_LOGP
  z = jnp.where(certain, _MAX_MEAN_LOGP, mean_logp)
  return jnp.where(certain, 0.0, -1 / jnp.expm1(z))


def orpo(
  chosen_logps: Array,
  rejected_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  lam: float = 0.1,
) -> tuple[Array, Array]:
  """d_w = (1 + c / (1 - P_w)) / |y_w|, d_l = c / (1 - P_l) / |y_l|.

  See jalign.losses.orpo.
  """
  chosen, rejected, chosen_lengths, rejected_lengths = same_floats(
    chosen_logps, rejected_logps, chosen_lengths, rejected_lengths
  )
  chosen = per_token(chosen, chosen_lengths)
  rejected = per_token(rejected, rejected_lengths)
  d = lam * jax.nn.sigmoid(_log_odds(rejected) - _log_odds(chosen))
  return (
    per_token(1 + d * _log_odds_slope(chosen), chosen_lengths),
    per_token(d * _log_odds_slope(rejected), rejected_lengths),
  )


def asft(
  chosen_logps: Array,
  rejected_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  lam: float = 0.1,
) -> tuple[Array, Array]:
  """d_w = (1 + lam) / |y_w|, d_l = lam P_l / (1 - P_l) / |y_l|.

  See jalign.losses.asft.
  """
  chosen, rejected, chosen_lengths, rejected_lengths = same_floats(
    chosen_logps, rejected_logps, chosen_lengths, rejected_lengths
  )
  rejected = per_token(rejected, rejected_lengths)
  odds = jnp.exp(jnp.minimum(rejected, 0.0)) * _log_odds_slope(rejected)
  return (
    (1 + lam) * per_token(jnp.ones_like(chosen), chosen_lengths),
    per_token(lam * odds, rejected_lengths),
  )
