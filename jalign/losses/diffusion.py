"""Preference losses on the denoising errors of diffusion models.

An error is the squared error's mean over pixels and channels. Both images of a
pair have been noised with the same noise at the same time step.
"""

import math

import jax
import jax.numpy as jnp

from jalign.losses._arrays import check_range, same_floats
from jalign.types import Array


def diffusion_dpo(
  chosen_errors: Array,
  rejected_errors: Array,
  ref_chosen_errors: Array,
  ref_rejected_errors: Array,
  *,
  beta: float = 5000.0,
) -> Array:
  """DPO for diffusion models: denoising errors replace negative log-probs.

  l = -log sigmoid(-beta / 2 ((m_w - m_l) - (ref_w - ref_l))),  m = error

  beta includes the number of time steps and their weight. It is for errors that
  are means: with sums over pixels the same beta would act as one multiplied by
  the number of pixels.

  Wallace et al. 2023, "Diffusion Model Alignment Using Direct Preference
  Optimization", arXiv:2311.12908.

  Args:
    chosen_errors: [B] mean squared denoising error of the preferred images.
    rejected_errors: [B] the same for the dispreferred images.
    ref_chosen_errors: [B] chosen_errors under the reference; a constant.
    ref_rejected_errors: [B] rejected_errors under the reference; a constant.
    beta: strength of the KL regularisation, > 0; the paper uses 2000 for its
      smaller model.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0)
  chosen, rejected, ref_chosen, ref_rejected = same_floats(
    chosen_errors, rejected_errors, ref_chosen_errors, ref_rejected_errors
  )
  reference = jax.lax.stop_gradient(ref_chosen - ref_rejected)
  return jax.nn.softplus(beta / 2 * ((chosen - rejected) - reference))


# The Bernoulli numbers B_2, B_4 .. B_20.
_BERNOULLI = (
  1 / 6,
  -1 / 30,
  1 / 42,
  -1 / 30,
  5 / 66,
  -691 / 2730,
  7 / 6,
  -3617 / 510,
  43867 / 798,
  -174611 / 330,
)


def _deficit(x: Array) -> Array:
  """1 - x / (exp(x) - 1) for x >= 0, which rises from 0 to 1.

  The result is going to be multiplied by a thousand time steps, so that it
  needs full relative precision: below x = 1 it is computed as a series, above
  in a form without cancellation.
  """
  near = x < 1
  small = jnp.where(near, x, 0.0)
  square = jnp.square(small)
  even = jnp.zeros_like(x)
  for k in range(len(_BERNOULLI), 0, -1):
    even = (even + _BERNOULLI[k - 1] / math.factorial(2 * k)) * square
  large = jnp.where(near, 1.0, x)
  tail = 1 + large * jnp.exp(-large) / jnp.expm1(-large)
  return jnp.where(near, small / 2 - even, tail)


def mapo(
  chosen_errors: Array,
  rejected_errors: Array,
  *,
  beta: float = 0.1,
  timesteps: float = 1000.0,
  scale: float = 0.5,
) -> Array:
  """Margin-aware preference optimisation of diffusion, without a reference.

  l = m_w - beta log sigmoid(T (g(m_w) - g(m_l))),
  g(m) = c m / (exp(c m) - 1),  m = error,  T = timesteps,  c = scale

  g is 1 for an error of 0 and falls as the error grows. The first term is plain
  fine-tuning on the preferred images; at beta = 0 it is the whole loss.

  Hong et al. 2024, "Margin-aware Preference Optimization for Aligning Diffusion
  Models without Reference", arXiv:2406.06424.

  Args:
    chosen_errors: [B] mean squared denoising error of the preferred images.
    rejected_errors: [B] the same for the dispreferred images.
    beta: weight of the preference term, >= 0.
    timesteps: number of time steps of the training schedule, > 0.
    scale: factor on the errors in g, > 0.

  Returns:
    [B] float32 losses, not reduced.

  Raises:
    AssertionError: shapes differ.
    UserError: a hyperparameter is out of range.
  """
  check_range("beta", beta, 0, ends="[)")
  check_range("timesteps", timesteps, 0)
  check_range("scale", scale, 0)
  chosen, rejected = same_floats(chosen_errors, rejected_errors)
  margin = _deficit(scale * rejected) - _deficit(scale * chosen)
  return chosen + beta * jax.nn.softplus(-timesteps * margin)
