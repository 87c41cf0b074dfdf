"""Losses on single responses that are labelled desirable or undesirable."""

import math

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, flags, same_floats
from jalign.types import Array


def _log_ratio(logps, ref_logps):
  logps, ref_logps = same_floats(logps, ref_logps)
  return logps - jax.lax.stop_gradient(ref_logps)


def _towards(desirable, x):
  """x for desirable responses, -x for undesirable responses."""
  return jnp.where(desirable, x, -x)


def kto_reference_point(
  mismatched_logps: Array, ref_mismatched_logps: Array, valid: Array
) -> Array:
  """The KL estimate that KTO subtracts from its log-ratios.

  The estimate is max(0, mean of log pi/ref over the mismatched rows that are
  valid). Row i holds the prompt of one example with a response to another
  prompt of the whole batch. The mean is over the batch of all devices, and rows
  whose log-ratio is 0 count. One library pairs within a device's part of the
  batch; another leaves the zeros out of the mean.

  Args:
    mismatched_logps: [B] summed log-probs (nats) of mismatched responses under
      the policy.
    ref_mismatched_logps: [B] mismatched_logps under the reference.
    valid: [B] bool, False for rows that only fill the batch.

  Returns:
    [] float32, a constant, >= 0. It is 0 if no row is valid.

  Raises:
    AssertionError: shapes differ.
  """
  (valid,) = flags(mismatched_logps, valid)
  ratio = _log_ratio(mismatched_logps, ref_mismatched_logps)
  count = jnp.maximum(jnp.sum(valid, dtype=ratio.dtype), 1)
  mean = jnp.sum(jnp.where(valid, ratio, 0.0)) / count
  return jax.lax.stop_gradient(jnp.maximum(mean, 0))


def kto(
  logps: Array,
  ref_logps: Array,
  desirable: Array,
  mismatched_logps: Array,
  ref_mismatched_logps: Array,
  valid: Array,
  *,
  beta: float = 0.1,
  desirable_weight: float = 1.0,
  undesirable_weight: float = 1.0,
) -> Array:
  """Kahneman-Tversky optimisation: gains and losses relative to a KL estimate.

  l = w_d (1 - sigmoid(beta (r - z_0))) if desirable, else
  w_u (1 - sigmoid(beta (z_0 - r))),  r = log pi/ref,
  z_0 = max(0, mean over the batch of r of mismatched responses)

  z_0 is a constant: see `kto_reference_point`. beta multiplies the whole
  difference, and z_0 isn't multiplied by beta before that. The gradient
  vanishes as r moves away from z_0 on either side. Some publications give the
  value function w - l instead of l. Rows that aren't valid don't enter z_0 and
  have loss 0. Where one label is rarer, the paper advises weights such that
  w_d n_d / (w_u n_u) is in [1, 4/3], where n counts the examples of each label.

  Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic
  Optimization", arXiv:2402.01306.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    ref_logps: [B] logps under the reference; a constant.
    desirable: [B] bool, True for desirable responses.
    mismatched_logps: [B] summed log-probs of responses to other prompts, under
      the policy; a constant.
    ref_mismatched_logps: [B] mismatched_logps under the reference; a constant.
    valid: [B] bool, False for rows that only fill the batch.
    beta: strength of the KL regularisation, > 0.
    desirable_weight: w_d, weight of desirable responses, >= 0.
    undesirable_weight: w_u, weight of undesirable responses, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("desirable_weight", desirable_weight, 0, ends="[)")
  check_range("undesirable_weight", undesirable_weight, 0, ends="[)")
  desirable, valid = flags(logps, desirable, valid)
  ratio = jnp.where(valid, _log_ratio(logps, ref_logps), 0.0)
  origin = kto_reference_point(mismatched_logps, ref_mismatched_logps, valid)
  gain = _towards(desirable, ratio - origin.astype(ratio.dtype))
  weight = jnp.where(desirable, desirable_weight, undesirable_weight)
  loss = weight.astype(ratio.dtype) * jax.nn.sigmoid(-beta * gain)
  return jnp.where(valid, loss, 0.0)


def bco_unpaired(
  logps: Array,
  ref_logps: Array,
  desirable: Array,
  *,
  beta: float = 0.1,
  shift: float = 0.0,
) -> Array:
  """Binary classifier optimisation on labelled responses.

  l = -log sigmoid(q - shift) if desirable, else -log sigmoid(shift - q),
  q = beta log pi/ref

  The losses of a pair's two responses sum to the pair's `bco`. The shift is a
  constant; `bco_unpaired_shift_update` updates it from batch to batch.

  Jung et al. 2024, "Binary Classifier Optimization for Large Language Model
  Alignment", arXiv:2404.04656.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    ref_logps: [B] logps under the reference; a constant.
    desirable: [B] bool, True for desirable responses.
    beta: strength of the KL regularisation, > 0.
    shift: reward that separates the two labels; any finite number.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("shift", shift, -math.inf)
  (desirable,) = flags(logps, desirable)
  reward = beta * _log_ratio(logps, ref_logps) - jax.lax.stop_gradient(shift)
  return jax.nn.softplus(-_towards(desirable, reward))


def bco_unpaired_shift_update(
  shift: Array | float,
  logps: Array,
  ref_logps: Array,
  desirable: Array,
  valid: Array,
  *,
  beta: float,
  decay: float,
) -> Array:
  """Updates the shift of `bco_unpaired` after a batch; see `bco_shift_update`.

  decay shift + (1 - decay) (mean q of desirable + mean q of others) / 2,
  q = beta log pi/ref

  Both labels weigh the same, however many responses each label has. One
  library's trainer takes the mean over all rewards, which is the same where
  both labels have equally many responses.

  Args:
    shift: [] the shift before the batch.
    logps: [B] summed response log-probs (nats) under the policy.
    ref_logps: [B] logps under the reference.
    desirable: [B] bool, True for desirable responses.
    valid: [B] bool, False for rows that only fill the batch.
    beta: the beta of the loss, > 0.
    decay: share of the old shift that stays, in [0, 1].

  Returns:
    [] float32 shift, a constant; the old shift if the batch lacks a label.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("decay", decay, 0, 1, ends="[]")
  desirable, valid = flags(logps, desirable, valid)
  reward = beta * _log_ratio(logps, ref_logps)
  means, counts = [], []
  for kind in (valid & desirable, valid & ~desirable):
    counts.append(jnp.sum(kind, dtype=reward.dtype))
    total = jnp.sum(jnp.where(kind, reward, 0.0))
    means.append(total / jnp.maximum(counts[-1], 1))
  old = jnp.asarray(shift, reward.dtype)
  new = decay * old + (1 - decay) * (means[0] + means[1]) / 2
  both = (counts[0] > 0) & (counts[1] > 0)
  return jax.lax.stop_gradient(jnp.where(both, new, old))


def matching_weights(
  desirable: Array,
  desirable_rate: Array,
  *,
  lowest: float = 0.5,
  highest: float = 10.0,
) -> Array:
  """Weights that match undesirable responses to the desirable ones' prompts.

  Weighted so, the prompts of undesirable responses are distributed like those
  of desirable responses. The weight is 1 for a desirable response. For an
  undesirable response it is p / (1 - p), clipped to [lowest, highest], where p
  is the rate of desirable responses to the prompt: prompts that have only
  undesirable responses count less. Where p is 1 the weight is `highest`.

  Args:
    desirable: [B] bool, True for desirable responses.
    desirable_rate: [B] P(desirable | prompt), in [0, 1], from a classifier of
      prompts.
    lowest: least weight of an undesirable response, >= 0.
    highest: greatest weight of an undesirable response, >= lowest.

  Returns:
    [B] float32 weights, constants.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("lowest", lowest, 0, ends="[)")
  check_range("highest", highest, 0)
  if isinstance(lowest, int | float):
    check_range("highest", highest, lowest, ends="[)")
  (desirable,) = flags(desirable_rate, desirable)
  (rate,) = same_floats(desirable_rate)
  sure = rate >= 1
  odds = rate / jnp.where(sure, 1.0, 1 - rate)
  odds = jnp.clip(jnp.where(sure, highest, odds), lowest, highest)
  return jax.lax.stop_gradient(jnp.where(desirable, 1.0, odds))


def bco_unpaired_matched(
  logps: Array,
  ref_logps: Array,
  desirable: Array,
  desirable_rate: Array,
  *,
  beta: float = 0.1,
  shift: float = 0.0,
  lowest: float = 0.5,
  highest: float = 10.0,
) -> Array:
  """Binary classifier optimisation with matched prompts.

  l = -log sigmoid(q - shift) if desirable, else
  -u log sigmoid(shift - q),  q = beta log pi/ref,
  u = p / (1 - p) cut to [lowest, highest],  p = P(desirable | prompt)

  This is for data whose desirable and undesirable responses come from different
  prompts. The weights u are constants: see `matching_weights`. At p = 1/2 this
  is `bco_unpaired`.

  Jung et al. 2024, "Binary Classifier Optimization for Large Language Model
  Alignment", arXiv:2404.04656.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    ref_logps: [B] logps under the reference; a constant.
    desirable: [B] bool, True for desirable responses.
    desirable_rate: [B] P(desirable | prompt), in [0, 1]; a constant.
    beta: strength of the KL regularisation, > 0.
    shift: reward that separates the two labels; any finite number.
    lowest: least weight of an undesirable response, >= 0.
    highest: greatest weight of an undesirable response, >= lowest.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  plain = bco_unpaired(logps, ref_logps, desirable, beta=beta, shift=shift)
  weights = matching_weights(
    desirable, desirable_rate, lowest=lowest, highest=highest
  )
  return jnp.multiply(*same_floats(weights, plain))


def apo_zero_unpaired(
  logps: Array, ref_logps: Array, desirable: Array, *, beta: float = 0.1
) -> Array:
  """Anchored preference optimisation on labelled responses.

  l = 1 - sigmoid(q) if desirable, else sigmoid(q),  q = beta log pi/ref

  The losses of a pair's two responses sum to the pair's `apo_zero`. This is KTO
  with its reference point at 0.

  D'Oosterlinck et al. 2024, "Anchored Preference Optimization and Contrastive
  Revisions: Addressing Underspecification in Alignment", arXiv:2408.06266,
  eq. 7, for one response.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    ref_logps: [B] logps under the reference; a constant.
    desirable: [B] bool, True for desirable responses.
    beta: strength of the KL regularisation, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  (desirable,) = flags(logps, desirable)
  reward = beta * _log_ratio(logps, ref_logps)
  return jax.nn.sigmoid(-_towards(desirable, reward))
