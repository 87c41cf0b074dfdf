"""BCO on pairs: each response is classified against a moving reward shift."""

import math

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, log_ratios, same_floats
from jalign.losses.unpaired import bco_unpaired_shift_update
from jalign.types import Array


def bco(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
  shift: float = 0.0,
) -> Array:
  """Binary classifier optimisation (BCO): classifies each response by itself.

  l = -log sigmoid(q_w - shift) - log sigmoid(-(q_l - shift)),
  q = beta log pi/ref

  For every shift the loss is an upper bound of DPO's. The shift is a constant;
  `bco_shift_update` updates it from batch to batch. With shift 0 this is what
  one library's DPO trainer calls BCO, and the biased form in NCA's code.

  Jung et al. 2024, "Binary Classifier Optimization for Large Language Model
  Alignment", arXiv:2404.04656.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    beta: strength of the KL regularisation, > 0.
    shift: reward that separates chosen from rejected responses; any finite
      number.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("shift", shift, -math.inf)
  up, down = log_ratios(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  shift = jax.lax.stop_gradient(shift)
  good, bad = beta * up - shift, beta * down - shift
  return jax.nn.softplus(-good) + jax.nn.softplus(bad)


def bco_shift_update(
  shift: Array | float,
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float,
  decay: float,
  valid: Array | None = None,
) -> Array:
  """Updates `bco`'s shift after a batch: a moving average of the mean rewards.

  decay shift + (1 - decay) (mean q_w + mean q_l) / 2,  q = beta log pi/ref

  The paper uses a moving average, whose momentum we couldn't establish. One
  library's BCO trainer uses the plain mean of all rewards since the start,
  updated before its use; that library's newer DPO trainer uses a shift of 0.

  Args:
    shift: [] the shift before the batch.
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference.
    ref_rejected_logps: [B] rejected_logps under the reference.
    beta: the beta of the loss, > 0.
    decay: share of the old shift that stays, in [0, 1].
    valid: [B] bool, False for rows that only fill the batch; None if there are
      no such rows.

  Returns:
    [] float32 shift, a constant; the old shift if no row is valid.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  chosen, rejected, ref_chosen, ref_rejected = same_floats(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  valid = jnp.ones(chosen.shape, bool) if valid is None else jnp.asarray(valid)
  yes = jnp.ones(chosen.shape, bool)
  return bco_unpaired_shift_update(
    shift,
    jnp.concatenate([chosen, rejected]),
    jnp.concatenate([ref_chosen, ref_rejected]),
    jnp.concatenate([yes, ~yes]),
    jnp.concatenate([valid, valid]),
    beta=beta,
    decay=decay,
  )
