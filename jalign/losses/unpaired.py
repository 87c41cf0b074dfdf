"""Losses on single responses with a label: desirable or not."""

import math

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, flags, same_floats
from jalign.types import Array


def _log_ratio(logps, ref_logps):
  logps, ref_logps = same_floats(logps, ref_logps)
  return logps - jax.lax.stop_gradient(ref_logps)


def _towards(desirable, x):
  """x for desirable responses, -x for others."""
  return jnp.where(desirable, x, -x)


def kto_reference_point(
  mismatched_logps: Array, ref_mismatched_logps: Array, valid: Array
) -> Array:
  """The KL estimate that KTO measures its log-ratios from.

  max(0, mean of log pi/ref over the mismatched pairs of the valid rows): row i
  pairs the prompt of one example with a response to another prompt, of the
  whole batch. The mean is over the batch of all devices, rows of
  estimate 0 included. One library pairs within a device's batch; another
  leaves out the zeros.

  Args:
    mismatched_logps: [B] summed log-probs (nats) of mismatched responses under
      the policy.
    ref_mismatched_logps: [B] the same under the reference.
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
  """Kahneman-Tversky optimisation: gains and losses against a KL estimate.

  l = w_d (1 - sigmoid(beta (r - z_0))) if desirable, else
  w_u (1 - sigmoid(beta (z_0 - r))),  r = log pi/ref,
  z_0 = max(0, mean over the batch of r of mismatched responses)

  z_0 is a constant: see `kto_reference_point`. It is within beta's bracket and
  isn't multiplied by beta before. The gradient vanishes on both sides of it.
  Some print the value function w - l. Rows that aren't valid have no part in
  z_0 and loss 0. Where one kind is rarer, weights such that
  w_d n_d / (w_u n_u) is in [1, 4/3] are advised.

  Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic
  Optimization", arXiv:2402.01306.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    ref_logps: [B] under the reference; a constant.
    desirable: [B] bool.
    mismatched_logps: [B] summed log-probs of responses to other prompts, under
      the policy; a constant.
    ref_mismatched_logps: [B] under the reference; a constant.
    valid: [B] bool, False for rows that only fill the batch.
    beta: strength of the KL regularisation, > 0.
    desirable_weight: w_d, >= 0.
    undesirable_weight: w_u, >= 0.

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

  A pair's two losses add up to `bco`. The shift is carried from batch to batch
  by `bco_unpaired_shift_update` and is a constant.

  Jung et al. 2024, "Binary Classifier Optimization for Large Language Model
  Alignment", arXiv:2404.04656.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    ref_logps: [B] under the reference; a constant.
    desirable: [B] bool.
    beta: strength of the KL regularisation, > 0.
    shift: reward between the two kinds; of either sign.

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
  """The shift of `bco_unpaired` after a batch: see `bco_shift_update`.

  decay shift + (1 - decay) (mean q of desirable + mean q of others) / 2,
  q = beta log pi/ref

  Both kinds weigh the same, however many there are. One library's trainer has
  the mean of all rewards, which is this for as many of each kind.

  Args:
    shift: [] before the batch.
    logps: [B] summed response log-probs (nats) under the policy.
    ref_logps: [B] under the reference.
    desirable: [B] bool.
    valid: [B] bool, False for rows that only fill the batch.
    beta: that of the loss, > 0.
    decay: share of the old shift that stays, in [0, 1].

  Returns:
    [] float32, a constant. Unchanged by a batch that lacks one kind.

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
  """Weights that give undesirable responses the desirable ones' prompts.

  1 for desirable responses, and for others p / (1 - p), cut to
  [lowest, highest], where p is the prompt's rate of desirable ones: prompts
  that only undesirable responses come from count less. Where p is 1 the weight
  is `highest`.

  Args:
    desirable: [B] bool.
    desirable_rate: [B] P(desirable | prompt), in [0, 1], from a classifier of
      prompts.
    lowest: least weight, >= 0.
    highest: greatest weight, >= lowest.

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

  For data whose two kinds of responses come from different prompts: see
  `matching_weights`, which are constants. At p = 1/2 this is `bco_unpaired`.

  Jung et al. 2024, "Binary Classifier Optimization for Large Language Model
  Alignment", arXiv:2404.04656.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    ref_logps: [B] under the reference; a constant.
    desirable: [B] bool.
    desirable_rate: [B] P(desirable | prompt), in [0, 1]; a constant.
    beta: strength of the KL regularisation, > 0.
    shift: reward between the two kinds; of either sign.
    lowest: least weight of an undesirable response, >= 0.
    highest: greatest weight of one, >= lowest.

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

  A pair's two losses add up to `apo_zero`. This is KTO with its reference
  point at 0.

  D'Oosterlinck et al. 2024, "Anchored Preference Optimization and Contrastive
  Revisions: Addressing Underspecification in Alignment", arXiv:2408.06266,
  eq. 7, a response at a time.

  Args:
    logps: [B] summed response log-probs (nats) under the policy.
    ref_logps: [B] under the reference; a constant.
    desirable: [B] bool.
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
