"""Slopes of the losses with offsets, sorts and third texts, in closed form.

Each function has its loss's name and signature, and gives (d_w, d_l): minus
the derivative of the batch's summed loss in `chosen_logps`, and the derivative
in `rejected_logps`, [B] each. Arrays that don't enter a slope are taken all the
same. Ranges are the loss's to check.
"""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import as_floats, flags, log_ratios, same_floats
from jalign.losses.pairwise.optimal_transport import matches
from jalign.losses.pairwise.tokenwise import wpo_weights
from jalign.types import Array

Slopes = tuple[Array, Array]


def _logistic(beta, margin, offset=0.0) -> Slopes:
  """Of -log sigmoid(beta margin - offset), where both slopes are one."""
  d = beta * jax.nn.sigmoid(offset - beta * margin)
  return d, d


def bco(
  chosen_logps,
  rejected_logps,
  ref_chosen_logps,
  ref_rejected_logps,
  *,
  beta=0.1,
  shift=0.0,
) -> Slopes:
  """beta sigmoid(shift - q_w) and beta sigmoid(q_l - shift)."""
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  good, bad = shift - beta * up, beta * down - shift
  return beta * jax.nn.sigmoid(good), beta * jax.nn.sigmoid(bad)


def aot_paired(
  chosen_logps,
  rejected_logps,
  ref_chosen_logps,
  ref_rejected_logps,
  valid,
  *,
  beta=0.1,
  label_smoothing=0.0,
) -> Slopes:
  """beta (sigmoid(-beta d) - e) of both; 0 of rows that aren't valid."""
  (valid,) = flags(chosen_logps, valid)
  chosen, rejected, *refs = same_floats(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  margin, reference = chosen - rejected, refs[0] - refs[1]
  match = matches(margin, reference, valid)
  z = beta * (margin - reference[match])
  d = beta * (jax.nn.sigmoid(-z) - label_smoothing)
  d = jnp.where(valid, d, 0.0)
  return d, d


def aot_unpaired(
  chosen_logps,
  rejected_logps,
  ref_chosen_logps,
  ref_rejected_logps,
  valid,
  *,
  beta=0.1,
  label_smoothing=0.0,
) -> Slopes:
  """As `aot_paired`; a rejected slope is that of the chosen one at its rank."""
  (valid,) = flags(chosen_logps, valid)
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  match = matches(up, down, valid)
  d = beta * (jax.nn.sigmoid(-beta * (up - down[match])) - label_smoothing)
  d = jnp.where(valid, d, 0.0)
  return d, d[jnp.argsort(match)]


def modpo(
  chosen_logps,
  rejected_logps,
  ref_chosen_logps,
  ref_rejected_logps,
  chosen_margin_scores,
  rejected_margin_scores,
  *,
  beta=0.1,
  weights=(0.5, 0.5),
) -> Slopes:
  """(beta / w_0) sigmoid(-z) of both."""
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  up, down, above, below = as_floats(
    up, down, chosen_margin_scores, rejected_margin_scores
  )
  w = jnp.asarray(weights, up.dtype)
  other = jnp.sum(w[1:] * (above - below), -1)
  return _logistic(beta / w[0], up - down, other / w[0])


def mm_dpo(
  chosen_logps,
  rejected_logps,
  ref_chosen_logps,
  ref_rejected_logps,
  chosen_scores,
  rejected_scores,
  *,
  beta=0.1,
  w=0.5,
  k=0.5,
) -> Slopes:
  """b sigmoid(-b h) of both, with the pair's own b."""
  up, down, above, below = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    chosen_scores,
    rejected_scores,
  )
  growth = 1 - jnp.exp(-k * jnp.maximum(above - below, 0))
  return _logistic(beta * (1 + w * growth), up - down)


def flex_dpo(
  chosen_logps,
  rejected_logps,
  ref_chosen_logps,
  ref_rejected_logps,
  *,
  beta_chosen=0.1,
  beta_rejected=0.05,
) -> Slopes:
  """One sigmoid, times each response's beta."""
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  c = jax.nn.sigmoid(beta_rejected * down - beta_chosen * up)
  return beta_chosen * c, beta_rejected * c


def selm(
  chosen_logps,
  rejected_logps,
  ref_chosen_logps,
  ref_rejected_logps,
  explore_logps,
  ref_explore_logps,
  *,
  beta=0.01,
  alpha=0.001,
) -> Slopes:
  """DPO's: the third response has a slope of its own, alpha beta."""
  del alpha
  up, down, *_ = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    explore_logps,
    ref_explore_logps,
  )
  return _logistic(beta, up - down)


def rationale_dpo(
  chosen_logps,
  rejected_logps,
  ref_chosen_logps,
  ref_rejected_logps,
  rationale_logps,
  *,
  beta=0.1,
  gamma=0.1,
) -> Slopes:
  """DPO's: the rationale has a slope of its own."""
  del gamma
  up, down, _ = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    rationale_logps,
  )
  return _logistic(beta, up - down)


def rationale_dpo_logsigmoid(
  chosen_logps,
  rejected_logps,
  ref_chosen_logps,
  ref_rejected_logps,
  rationale_logps,
  *,
  beta=0.1,
  gamma=0.1,
) -> Slopes:
  """DPO's, as those of `rationale_dpo`."""
  return rationale_dpo(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    rationale_logps,
    beta=beta,
    gamma=gamma,
  )


def tpo(
  chosen_logps, rejected_logps, gold_logps, *, beta=0.2, alpha=0.9
) -> Slopes:
  """beta sigmoid(-beta margin) of both: the gold response is another one."""
  del alpha
  up, down, _ = same_floats(chosen_logps, rejected_logps, gold_logps)
  return _logistic(beta, up - down)


def tpo_l(
  chosen_logps,
  rejected_logps,
  gold_logps,
  chosen_lengths,
  rejected_lengths,
  *,
  beta=0.01,
  alpha=1.0,
  gamma=0.5,
) -> Slopes:
  """One slope per token of each response."""
  del alpha
  up, down, _, chosen_lengths, rejected_lengths = same_floats(
    chosen_logps, rejected_logps, gold_logps, chosen_lengths, rejected_lengths
  )
  n, m = jnp.maximum(chosen_lengths, 1), jnp.maximum(rejected_lengths, 1)
  c, _ = _logistic(beta, up / n - down / m, gamma)
  return c / n, c / m


def ld_dpo(
  chosen_logps,
  rejected_logps,
  ref_chosen_logps,
  ref_rejected_logps,
  chosen_shared_logps,
  rejected_shared_logps,
  ref_chosen_shared_logps,
  ref_rejected_shared_logps,
  *,
  beta=0.1,
  alpha=0.5,
) -> Slopes:
  """In the whole sums, with the shared ones held: alpha times DPO's.

  The shared sums have slopes of their own, (1 - alpha) / alpha times these.
  """
  whole = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  shared = log_ratios(
    chosen_shared_logps,
    rejected_shared_logps,
    ref_chosen_shared_logps,
    ref_rejected_shared_logps,
  )
  up, down = (alpha * w + (1 - alpha) * s for w, s in zip(whole, shared))
  d, _ = _logistic(beta, up - down)
  return alpha * d, alpha * d


def wpo(
  chosen_logps,
  rejected_logps,
  ref_chosen_logps,
  ref_rejected_logps,
  chosen_collision_logps,
  rejected_collision_logps,
  chosen_lengths,
  rejected_lengths,
  *,
  beta=0.1,
) -> Slopes:
  """DPO's, times the weight."""
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  weights = wpo_weights(
    chosen_logps,
    rejected_logps,
    chosen_collision_logps,
    rejected_collision_logps,
    chosen_lengths,
    rejected_lengths,
  )
  d, _ = _logistic(beta, up - down)
  return weights * d, weights * d
