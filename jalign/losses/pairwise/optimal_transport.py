"""Losses that compare two sorted distributions over a batch, rank by rank."""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, flags, log_ratios, same_floats
from jalign.types import Array


def matches(mine: Array, theirs: Array, valid: Array) -> Array:
  """For each row of `mine`, finds the row of `theirs` that has the same rank.

  Rows that aren't valid come last in both orders, so that they don't change the
  ranks of valid rows. Equal values take ranks in the order of the rows.

  Args:
    mine: [B] values.
    theirs: [B] values.
    valid: [B] bool.

  Returns:
    [B] integers, a permutation of the rows.
  """
  order = lambda x: jnp.lexsort((jax.lax.stop_gradient(x), ~valid))
  return order(theirs)[jnp.argsort(order(mine))]


def _by_rank(mine, theirs, valid, beta, label_smoothing):
  """Logistic loss of `mine` less the value of the same rank in `theirs`."""
  # Rows that fill the batch may hold anything, NaN too, which would get into
  # gradients despite the last where.
  mine = jnp.where(valid, mine, 0.0)
  theirs = jnp.where(valid, theirs, 0.0)
  z = beta * (mine - theirs[matches(mine, theirs, valid)])
  return jnp.where(valid, jax.nn.softplus(-z) + label_smoothing * z, 0.0)


def aot_paired(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  valid: Array,
  *,
  beta: float = 0.1,
  label_smoothing: float = 0.0,
) -> Array:
  """Alignment by optimal transport (AOT) of margins to the reference's margins.

  l_b = -(1 - e) log sigmoid(beta d_b) - e log sigmoid(-beta d_b),
  d_b = m_b - (the reference's margin that has, in the batch, the rank of m_b),
  m = log pi(y_w) - log pi(y_l),  e = label_smoothing

  The policy's and the reference's margins are sorted over the batch and
  compared rank by rank; losses are returned in the order of the examples, and
  equal margins take ranks in that order. The batch is the whole batch of all
  devices: a sort for each device would be another loss. Rows that aren't valid
  get no rank and have loss 0. The logistic link and the smoothing are those of
  public code; the paper's other links aren't available here.

  Melnyk et al. 2024, "Distributional Preference Alignment of LLMs via Optimal
  Transport", arXiv:2406.05882.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    valid: [B] bool, False for rows that only fill the batch.
    beta: strength of the KL regularisation, > 0.
    label_smoothing: assumed rate of flipped labels, in [0, 0.5].

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("label_smoothing", label_smoothing, 0, 0.5, ends="[]")
  (valid,) = flags(chosen_logps, valid)
  chosen, rejected, ref_chosen, ref_rejected = same_floats(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  reference = jax.lax.stop_gradient(ref_chosen - ref_rejected)
  return _by_rank(chosen - rejected, reference, valid, beta, label_smoothing)


def aot_unpaired(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  valid: Array,
  *,
  beta: float = 0.1,
  label_smoothing: float = 0.0,
) -> Array:
  """AOT of the chosen responses' log-ratios to those of rejected responses.

  l_b = -(1 - e) log sigmoid(beta d_b) - e log sigmoid(-beta d_b),
  d_b = r_w,b - (the r_l that has, in the batch, the rank of r_w,b),
  r = log pi/ref,  e = label_smoothing

  The chosen responses need not answer the prompts of the rejected responses:
  only the two distributions of log-ratios count. The loss of an example
  compares its chosen response with some example's rejected response. Ranks,
  ties, rows that aren't valid and the link are as in `aot_paired`. Older public
  code calls this loss "aot_pair".

  Melnyk et al. 2024, "Distributional Preference Alignment of LLMs via Optimal
  Transport", arXiv:2406.05882.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    valid: [B] bool, False for rows that only fill the batch.
    beta: strength of the KL regularisation, > 0.
    label_smoothing: assumed rate of flipped labels, in [0, 0.5].

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("label_smoothing", label_smoothing, 0, 0.5, ends="[]")
  (valid,) = flags(chosen_logps, valid)
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  return _by_rank(up, down, valid, beta, label_smoothing)
