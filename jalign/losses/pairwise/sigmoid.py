"""Losses that are the logistic loss of a margin."""

import jax

from jalign.losses._arrays import (
  check_range,
  log_ratios,
  per_token,
  same_floats,
)
from jalign.types import Array


def _logistic(z: Array) -> Array:
  """-log sigmoid(z), without overflow."""
  return jax.nn.softplus(-z)


def dpo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
  label_smoothing: float = 0.0,
) -> Array:
  """Direct preference optimisation, and its conservative form (cDPO).

  l = -(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h),
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l),  e = label_smoothing

  Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is
  Secretly a Reward Model", arXiv:2305.18290, eq. 7. Label smoothing: E.
  Mitchell 2023, "A note on DPO with noisy preferences & relationship to IPO".

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    beta: strength of the KL regularisation, > 0.
    label_smoothing: assumed probability that a label is flipped, in [0, 0.5].
      Above 0 the loss has its minimum at beta h = log((1 - e) / e).

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("label_smoothing", label_smoothing, 0, 0.5, ends="[]")
  chosen, rejected, ref_chosen, ref_rejected = same_floats(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  reference = jax.lax.stop_gradient(ref_chosen - ref_rejected)
  z = beta * (chosen - rejected - reference)
  return _logistic(z) + label_smoothing * z


def robust_dpo(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.1,
  label_smoothing: float = 0.1,
) -> Array:
  """Robust DPO: an unbiased estimate of DPO's loss from flipped labels.

  l = (-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)) / (1 - 2 e),
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l),  e = label_smoothing

  The sign of the second term is opposite to cDPO's: the loss has no lower
  bound, and its gradient stays at least e beta / (1 - 2 e).

  Ray Chowdhury, Kini and Natarajan 2024, "Provably Robust DPO: Aligning
  Language Models with Noisy Feedback", arXiv:2403.00409.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    beta: strength of the KL regularisation, > 0.
    label_smoothing: rate at which labels are flipped, in [0, 0.5).

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("label_smoothing", label_smoothing, 0, 0.5, ends="[)")
  chosen, rejected, ref_chosen, ref_rejected = same_floats(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  reference = jax.lax.stop_gradient(ref_chosen - ref_rejected)
  z = beta * (chosen - rejected - reference)
  return _logistic(z) - label_smoothing / (1 - 2 * label_smoothing) * z


def dpop(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  *,
  beta: float = 0.3,
  lam: float = 50.0,
) -> Array:
  """DPO-positive: DPO with a penalty if the chosen response's log-ratio is < 0.

  l = -log sigmoid(beta (h - lam max(0, -r_w))),
  r = log pi/ref,  h = r(y_w) - r(y_l)

  The penalty is inside the sigmoid, so that beta scales it too. At pi = ref,
  where training starts, the max contributes no gradient.

  Pal et al. 2024, "Smaug: Fixing Failure Modes of Preference Optimisation with
  DPO-Positive", arXiv:2402.13228.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    beta: strength of the KL regularisation, > 0.
    lam: weight of the penalty, >= 0; the paper tries 5, 50 and 500.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("lam", lam, 0, ends="[)")
  chosen, rejected, ref_chosen, ref_rejected = same_floats(
    chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
  )
  up = chosen - jax.lax.stop_gradient(ref_chosen)
  down = rejected - jax.lax.stop_gradient(ref_rejected)
  return _logistic(beta * (up - down - lam * jax.nn.relu(-up)))


def simpo(
  chosen_logps: Array,
  rejected_logps: Array,
  chosen_lengths: Array,
  rejected_lengths: Array,
  *,
  beta: float = 2.0,
  gamma: float = 0.5,
) -> Array:
  """Simple preference optimisation: mean log-probs, a margin, no reference.

  l = -log sigmoid(beta (log pi(y_w) / |y_w| - log pi(y_l) / |y_l|) - gamma)

  `gamma` is the margin itself, whereas the authors' configs give the ratio
  gamma / beta: 0.25 at beta = 2, which gives the default of gamma here.

  Meng, Xia and Chen 2024, "SimPO: Simple Preference Optimization with a
  Reference-Free Reward", arXiv:2405.14734, eq. 6.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    chosen_lengths: [B] numbers of scored tokens of the chosen responses.
    rejected_lengths: [B] the same for the dispreferred responses.
    beta: scale of the reward, > 0.
    gamma: margin between the rewards, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("gamma", gamma, 0, ends="[)")
  chosen, rejected, chosen_lengths, rejected_lengths = same_floats(
    chosen_logps, rejected_logps, chosen_lengths, rejected_lengths
  )
  margin = per_token(chosen, chosen_lengths)
  margin -= per_token(rejected, rejected_lengths)
  return _logistic(beta * margin - gamma)


def cpo(
  chosen_logps: Array,
  rejected_logps: Array,
  chosen_lengths: Array,
  *,
  beta: float = 0.1,
  alpha: float = 1.0,
) -> Array:
  """Contrastive preference optimisation: DPO under a uniform reference, + NLL.

  l = -log sigmoid(beta (log pi(y_w) - log pi(y_l)))
      - alpha log pi(y_w) / |y_w|

  Log-probs are sums in the preference term, and a mean over the tokens of each
  response in the likelihood term: for long responses a sum would outgrow the
  first term, and the authors' mean over the tokens of a batch isn't a function
  of a single example (see `cpo_sft`). The paper has no alpha, which means
  alpha = 1.

  Xu et al. 2024, "Contrastive Preference Optimization: Pushing the Boundaries
  of LLM Performance in Machine Translation", arXiv:2401.08417.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    chosen_lengths: [B] numbers of scored tokens of the chosen responses.
    beta: scale of the preference term's margin, > 0.
    alpha: weight of the negative log-likelihood, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  check_range("alpha", alpha, 0, ends="[)")
  chosen, rejected, lengths = same_floats(
    chosen_logps, rejected_logps, chosen_lengths
  )
  nll = -per_token(chosen, lengths)
  return _logistic(beta * (chosen - rejected)) + alpha * nll


def dpo_soft(
  chosen_logps: Array,
  rejected_logps: Array,
  ref_chosen_logps: Array,
  ref_rejected_logps: Array,
  preference: Array,
  *,
  beta: float = 0.1,
) -> Array:
  """DPO for a known preference probability in place of a label.

  l = -p log sigmoid(beta h) - (1 - p) log sigmoid(-beta h),
  h = (log pi/ref)(y_w) - (log pi/ref)(y_l),  p = P(y_w > y_l)

  This is the expectation of DPO's loss over the label, with its minimum at
  beta h = log(p / (1 - p)). Gradients do not flow into the preference.

  Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is
  Secretly a Reward Model", arXiv:2305.18290, eq. 7 in expectation.

  Args:
    chosen_logps: [B] summed response log-probs (nats) under the policy.
    rejected_logps: [B] the same for the dispreferred responses.
    ref_chosen_logps: [B] chosen_logps under the reference; a constant.
    ref_rejected_logps: [B] rejected_logps under the reference; a constant.
    preference: [B] P(first > second) in [0, 1]; a constant.
    beta: strength of the KL regularisation, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  up, down, preference = log_ratios(
    chosen_logps,
    rejected_logps,
    ref_chosen_logps,
    ref_rejected_logps,
    preference,
  )
  z = beta * (up - down)
  return _logistic(z) + (1 - jax.lax.stop_gradient(preference)) * z
