"""DPO with offsets or divisors from the responses' lengths or scores."""

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.losses._arrays import check_range, log_ratios, per_token
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
) -> Array:
  """DPO that lets length explain a part of the preference.

  l = -log sigmoid(beta h + alpha (|y_w| - |y_l|)),
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l)

  The plus sign follows from a reward that is charged alpha per token: where the
  chosen response is the longer one, less is left to learn. alpha = 0 gives DPO;
  the default is the largest alpha that the paper tries on its dialogues.

  Park et al. 2024, "Disentangling Length from Quality in Direct Preference
  Optimization", arXiv:2403.19159.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    chosen_lengths: [B] numbers of scored tokens of the chosen responses.
    rejected_lengths: [B] the same for the dispreferred responses.
    beta: strength of the KL regularisation, > 0.
    alpha: reward that is charged per token, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("alpha", alpha, 0, ends="[)")
  up, down, chosen_lengths, rejected_lengths = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    chosen_lengths,
    rejected_lengths,
  )
  z = beta * (up - down) + alpha * (chosen_lengths - rejected_lengths)
  return jax.nn.softplus(-z)


def dpo_length_normalized(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  beta: float = 5.0,
) -> Array:
  """DPO on log-ratios per token.

  l = -log sigmoid(beta (r_w / |y_w| - r_l / |y_l|)),  r = log pi/ref

  For responses of equal length |y| this is DPO with beta / |y|, so that useful
  values of beta are larger than DPO's.

  Lambert et al. 2024, "Tulu 3: Pushing Frontiers in Open Language Model
  Post-Training", arXiv:2411.15124.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    chosen_lengths: [B] numbers of scored tokens of the chosen responses.
    rejected_lengths: [B] the same for the dispreferred responses.
    beta: scale of the margin per token, > 0; the default is Tulu 3's.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  up, down, chosen_lengths, rejected_lengths = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    chosen_lengths,
    rejected_lengths,
  )
  margin = per_token(up, chosen_lengths) - per_token(down, rejected_lengths)
  return jax.nn.softplus(-beta * margin)


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
) -> Array:
  """DPO with an offset that grows with the difference of a pair's scores.

  l = -log sigmoid(beta h - alpha log(s_w - s_l)),
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l),  s = score

  Scores less than 1 apart give a negative offset. Where the difference isn't
  positive the logarithm has no value: such scores in NumPy arrays or Python
  numbers raise an error, as a hyperparameter out of range does. The values of
  jax arrays aren't checked, because that would wait for the device: a pair
  there whose scores are tied or contradict the label has loss 0, the limit for
  a vanishing difference, and still counts as an example. For all other pairs
  alpha = 0 gives DPO. Gradients do not flow into the scores.

  Amini, Vieira and Cotterell 2024, "Direct Preference Optimization with an
  Offset", arXiv:2402.10571.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    chosen_scores: [B] rewards of the chosen responses; a constant.
    rejected_scores: [B] the same for the dispreferred responses.
    beta: strength of the KL regularisation, > 0.
    alpha: weight of the offset, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range, or a difference of scores that
      aren't jax arrays is not positive.
  """
  check_range("beta", beta, 0)
  check_range("alpha", alpha, 0, ends="[)")
  given = chosen_scores, rejected_scores
  up, down, chosen_scores, rejected_scores = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    chosen_scores,
    rejected_scores,
  )
  _check_gaps(*given)
  gap = jax.lax.stop_gradient(chosen_scores - rejected_scores)
  ordered = gap > 0
  offset = alpha * jnp.log(jnp.where(ordered, gap, 1.0))
  loss = jax.nn.softplus(offset - beta * (up - down))
  return jnp.where(ordered, loss, 0.0)


def _check_gaps(chosen_scores, rejected_scores):
  """Refuses scores whose difference has no logarithm, unless they are jax's."""
  if any(isinstance(x, jax.Array) for x in (chosen_scores, rejected_scores)):
    return
  gaps = np.ravel(np.asarray(chosen_scores, float) - rejected_scores)
  bad = np.flatnonzero(~(gaps > 0))  # also NaN
  if bad.size:
    raise UserError(
      "chosen_scores - rejected_scores must be in (0, inf), but is"
      f" {gaps[bad[0]]:g} for example {bad[0]}.",
      remedy="Leave out pairs whose scores are tied or contradict the label.",
    )
