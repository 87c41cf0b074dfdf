"""Losses of reward models that know the rater.

The scores that they take are those of one rater: of a latent vector that was
inferred from the rater's pairs (VPL), or of weights kept for the rater (PAL).
"""

import chex
import jax
import jax.numpy as jnp

from jalign.losses._arrays import (
  as_floats,
  check_range,
  equal_floats,
  same_floats,
)
from jalign.types import Array


def latent_kl(means: Array, log_variances: Array) -> Array:
  """KL(N(means, diag exp(log_variances)) || N(0, 1)), summed over coordinates.

  The value is -1/2 sum_z (1 + l_z - m_z^2 - exp(l_z)), in nats; released code
  of VPL logs it without the factor 1/2.

  Args:
    means: [..., Z] m.
    log_variances: [..., Z] l.

  Returns:
    [...] values >= 0; 0 for zeros.

  Raises:
    AssertionError: shapes differ.
  """
  means, log_variances = equal_floats(means, log_variances)
  # expm1(l) - l keeps the digits of small values that 1 + l - exp(l) loses.
  terms = jnp.square(means) + (jnp.expm1(log_variances) - log_variances)
  return jnp.sum(terms, -1) / 2


def vpl(
  chosen_scores: Array,
  rejected_scores: Array,
  latent_means: Array,
  latent_log_variances: Array,
  *,
  kl_weight: float = 0.01,
) -> Array:
  """Variational preference learning (VPL): a rater's latent vector is inferred.

  l = -log sigmoid(s(y_w, z) - s(y_l, z)) + kl_weight KL(q || N(0, 1)),
  z ~ q = N(m, diag exp(v)),  m, v = functions of the rater's other pairs

  The scores are those of a sampled z. The KL is summed over the coordinates of
  z, so that a weight for 512 coordinates is much too small for 8. Where the
  scores ignore z, the optimum has q = N(0, 1) and the loss is Bradley-Terry's.
  Sources give kl_weight 3e-6, 1e-4 and 0.01; the default is that of the
  authors' command line. `jalign.losses.cyclical_cosine` is their schedule for
  the weight.

  Poddar et al. 2024, "Personalizing Reinforcement Learning from Human Feedback
  with Variational Preference Learning", arXiv:2408.10075.

  Args:
    chosen_scores: [B] scores of the preferred responses, for the rater.
    rejected_scores: [B] the same for the dispreferred responses.
    latent_means: [B, Z] means of q.
    latent_log_variances: [B, Z] logarithms of q's variances.
    kl_weight: weight of the KL, >= 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("kl_weight", kl_weight, 0, ends="[)")
  chex.assert_rank([chosen_scores, latent_means], [1, 2])
  chex.assert_equal_shape_prefix([chosen_scores, latent_means], 1)
  kl = latent_kl(latent_means, latent_log_variances)
  chosen, rejected = same_floats(chosen_scores, rejected_scores)
  chosen, rejected, kl = as_floats(chosen, rejected, kl)
  return jax.nn.softplus(rejected - chosen) + kl_weight * kl


def cyclical_cosine(
  step: Array | int, *, period: int = 10_000, baseline: float = 0.1
) -> Array:
  """VPL's schedule of the KL's weight: it rises, falls back, and rises again.

  The factor is b + (1 - b) (1 - cos(pi t / period)) / 2, with t = step modulo
  period. Low weights let the latent vector say something before the KL counts.

  Args:
    step: number of the step, from 0.
    period: steps of a cycle, > 0.
    baseline: b, the factor at the start of a cycle, in [0, 1].

  Returns:
    The factor of `kl_weight`, from b up to nearly 1.

  Raises:
    UserError: a hyperparameter is out of range.
  """
  check_range("period", period, 0)
  check_range("baseline", baseline, 0, 1, ends="[]")
  phase = jnp.asarray(step % period, jnp.result_type(float)) / period
  return baseline + (1 - baseline) * (1 - jnp.cos(jnp.pi * phase)) / 2


def pal_logistic(chosen_scores: Array, rejected_scores: Array) -> Array:
  """PAL with the logistic loss: an ideal point for each rater.

  l = -log sigmoid(s_w - s_l),  s = -(distance to the rater's ideal point)

  This is Bradley-Terry's loss, and with PAL-B's scores, a scaled cosine, it is
  the cross-entropy of the two scores. Distances may be squared or not: the
  sources have both, and the head decides. Raters whose scores agree share a
  prototype; one prototype is one taste for all.

  Chen et al. 2024, "PAL: Pluralistic Alignment Framework for Learning from
  Heterogeneous Preferences", arXiv:2406.08469.

  Args:
    chosen_scores: [B] scores of the preferred responses, for the rater.
    rejected_scores: [B] the same for the dispreferred responses.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
  """
  chosen, rejected = same_floats(chosen_scores, rejected_scores)
  return jax.nn.softplus(rejected - chosen)


def pal_hinge(
  chosen_scores: Array, rejected_scores: Array, *, margin: float = 1.0
) -> Array:
  """PAL with the hinge loss: an ideal point for each rater.

  l = max(0, margin - (s_w - s_l)),
  s = -(distance to the rater's ideal point)

  Pairs whose distances differ by the margin get no gradient. The margin is in
  units of the distance, squared or not as the head has it.

  Chen et al. 2024, "PAL: Pluralistic Alignment Framework for Learning from
  Heterogeneous Preferences", arXiv:2406.08469.

  Args:
    chosen_scores: [B] scores of the preferred responses, for the rater.
    rejected_scores: [B] the same for the dispreferred responses.
    margin: difference of the scores that is asked for, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("margin", margin, 0)
  chosen, rejected = same_floats(chosen_scores, rejected_scores)
  return jax.nn.relu(margin - (chosen - rejected))
