"""f-DPG: score-function losses of a divergence to a target distribution.

With t = pi / p, the divergence is D = E_p f(t), and its gradient is
E_pi f'(t) grad log pi, which samples of the policy estimate. Each loss is
f'(t) log pi with f'(t) held constant. A constant added to f' doesn't change the
expected gradient; `baseline` is subtracted from f' to lower the variance.
"""

import jax
import jax.numpy as jnp

from jalign.losses._arrays import (
  MAX_LOG_RATIO,
  at_most,
  check_range,
  same_floats,
)
from jalign.types import Array


def _floats(
  logps: Array, target_logps: Array, baseline: float
) -> tuple[Array, Array]:
  """Log-probs under the policy, and log t as a constant."""
  check_range("baseline", baseline, -float("inf"))
  logps, target_logps = same_floats(logps, target_logps)
  return logps, jax.lax.stop_gradient(logps - target_logps)


def _exp(z: Array) -> Array:
  return jnp.exp(at_most(z, MAX_LOG_RATIO))


def f_dpg_reverse_kl(
  logps: Array, target_logps: Array, *, baseline: float = 0.0
) -> Array:
  """f-DPG by KL(policy || target).

  l = (log t + 1 - baseline) log pi(y),  t = pi(y) / p(y)

  The factor before log pi is a constant, as in all f-DPG losses. For
  p = ref exp(r / beta) / Z this is RLHF: 1 / beta times REINFORCE's loss with
  the reward r - beta log(pi / ref), up to a baseline. The target probability of
  a sample may not be 0.

  Go et al. 2023, "Aligning Language Models with Preferences through
  f-divergence Minimization", arXiv:2302.08215.

  Args:
    logps: [B] summed log-probs (nats) of samples from the policy.
    target_logps: [B] log p of the samples: the target's log density minus
      log Z; a constant.
    baseline: any finite number, subtracted from the factor, such as its
      running mean.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: the baseline is no number.
  """
  logps, log_t = _floats(logps, target_logps, baseline)
  return (log_t + 1 - baseline) * logps


def f_dpg_forward_kl(
  logps: Array, target_logps: Array, *, baseline: float = 0.0
) -> Array:
  """f-DPG by KL(target || policy): distributional policy gradient.

  l = (-1 / t - baseline) log pi(y),  t = pi(y) / p(y)

  The factor before log pi is a constant. -log t counts as at most 60. The
  samples that matter most are those that are much less likely under the policy
  than under the target.

  Go et al. 2023, "Aligning Language Models with Preferences through
  f-divergence Minimization", arXiv:2302.08215.

  Args:
    logps: [B] summed log-probs (nats) of samples from the policy.
    target_logps: [B] log p of the samples: the target's log density minus
      log Z; a constant.
    baseline: any finite number, subtracted from the factor, such as its
      running mean.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: the baseline is no number.
  """
  logps, log_t = _floats(logps, target_logps, baseline)
  return (-_exp(-log_t) - baseline) * logps


def f_dpg_js(
  logps: Array, target_logps: Array, *, baseline: float = 0.0
) -> Array:
  """f-DPG by the Jensen-Shannon divergence.

  l = (log(2 t / (1 + t)) - baseline) log pi(y),  t = pi(y) / p(y)

  The factor before log pi is a constant. The divergence is
  KL(pi || m) + KL(p || m) with m = (pi + p) / 2, without the factor 1/2 that
  other definitions have.

  Go et al. 2023, "Aligning Language Models with Preferences through
  f-divergence Minimization", arXiv:2302.08215.

  Args:
    logps: [B] summed log-probs (nats) of samples from the policy.
    target_logps: [B] log p of the samples: the target's log density minus
      log Z; a constant.
    baseline: any finite number, subtracted from the factor, such as its
      running mean.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: the baseline is no number.
  """
  logps, log_t = _floats(logps, target_logps, baseline)
  return (jax.nn.log_sigmoid(log_t) + jnp.log(2.0) - baseline) * logps


def f_dpg_tv(
  logps: Array, target_logps: Array, *, baseline: float = 0.0
) -> Array:
  """f-DPG by the total variation.

  l = (sign(t - 1) / 2 - baseline) log pi(y),  t = pi(y) / p(y)

  The factor before log pi is a constant. All samples weigh the same, with a
  sign that depends on whether t is above 1; a sample with t = 1 has weight 0.
  The divergence is half the L1 distance.

  Go et al. 2023, "Aligning Language Models with Preferences through
  f-divergence Minimization", arXiv:2302.08215.

  Args:
    logps: [B] summed log-probs (nats) of samples from the policy.
    target_logps: [B] log p of the samples: the target's log density minus
      log Z; a constant.
    baseline: any finite number, subtracted from the factor, such as its
      running mean.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: the baseline is no number.
  """
  logps, log_t = _floats(logps, target_logps, baseline)
  return (jnp.sign(log_t) / 2 - baseline) * logps


def f_dpg_forward_chi2(
  logps: Array, target_logps: Array, *, baseline: float = 0.0
) -> Array:
  """f-DPG by chi-squared(target || policy).

  l = (1 - t^-2 - baseline) log pi(y),  t = pi(y) / p(y)

  The factor before log pi is a constant. The divergence is
  sum (p - pi)^2 / pi. -2 log t counts as at most 60.

  Go et al. 2023, "Aligning Language Models with Preferences through
  f-divergence Minimization", arXiv:2302.08215.

  Args:
    logps: [B] summed log-probs (nats) of samples from the policy.
    target_logps: [B] log p of the samples: the target's log density minus
      log Z; a constant.
    baseline: any finite number, subtracted from the factor, such as its
      running mean.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: the baseline is no number.
  """
  logps, log_t = _floats(logps, target_logps, baseline)
  return (1 - _exp(-2 * log_t) - baseline) * logps


def f_dpg_reverse_chi2(
  logps: Array, target_logps: Array, *, baseline: float = 0.0
) -> Array:
  """f-DPG by chi-squared(policy || target).

  l = (2 (t - 1) - baseline) log pi(y),  t = pi(y) / p(y)

  The factor before log pi is a constant. The divergence is sum (p - pi)^2 / p.
  log t counts as at most 60.

  Go et al. 2023, "Aligning Language Models with Preferences through
  f-divergence Minimization", arXiv:2302.08215.

  Args:
    logps: [B] summed log-probs (nats) of samples from the policy.
    target_logps: [B] log p of the samples: the target's log density minus
      log Z; a constant.
    baseline: any finite number, subtracted from the factor, such as its
      running mean.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: the baseline is no number.
  """
  logps, log_t = _floats(logps, target_logps, baseline)
  return (2 * (_exp(log_t) - 1) - baseline) * logps
