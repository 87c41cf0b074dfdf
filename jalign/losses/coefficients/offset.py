"""Coefficients of jalign.losses.pairwise.offset."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import log_ratios, per_token
from jalign.types import Array


def r_dpo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  beta: float = 0.1,
  alpha: float = 0.01,
) -> tuple[Array, Array]:
  """d_w = d_l = beta sigmoid(-(beta h + alpha (|y_w| - |y_l|))).

  See jalign.losses.r_dpo.
  """
  up, down, chosen_lengths, rejected_lengths = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    chosen_lengths,
    rejected_lengths,
  )
  z = beta * (up - down) + alpha * (chosen_lengths - rejected_lengths)
  d = beta * jax.nn.sigmoid(-z)
  return d, d


def dpo_length_normalized(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  beta: float = 5.0,
) -> tuple[Array, Array]:
  """d = beta sigmoid(-z) / |y|, z in the loss's sigmoid.

  See jalign.losses.dpo_length_normalized.
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
  d = beta * jax.nn.sigmoid(-beta * margin)
  return per_token(d, chosen_lengths), per_token(d, rejected_lengths)


def odpo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  chosen_scores: Array,
  rejected_scores: Array,
  *,
  beta: float = 0.1,
  alpha: float = 1.0,
) -> tuple[Array, Array]:
  """d_w = d_l = beta sigmoid(alpha log(s_w - s_l) - beta h); 0 if s_w <= s_l.

  See jalign.losses.odpo.
  """
  up, down, chosen_scores, rejected_scores = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    chosen_scores,
    rejected_scores,
  )
  gap = chosen_scores - rejected_scores
  offset = alpha * jnp.log(jnp.where(gap > 0, gap, 1.0))
  d = beta * jax.nn.sigmoid(offset - beta * (up - down))
  d = jnp.where(gap > 0, d, 0.0)
  return d, d
