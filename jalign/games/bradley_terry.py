"""The Bradley-Terry rewards that fit a preference game best."""

import jax
import jax.numpy as jnp

from jalign.errors import UserError
from jalign.games import matrix
from jalign.games.validity import check_weights
from jalign.types import Array


@matrix.in_float64
def bradley_terry_fit(
  preferences: Array, weights: Array | None = None, *, max_steps: int = 100
) -> Array:
  """Rewards whose Bradley-Terry model has the highest likelihood.

  Maximises sum_ij w_ij P_ij log sigmoid(r_i - r_j) by Newton's method. The
  maximum is at finite rewards if P(i > j) lies in (0, 1) for enough pairs to
  connect all actions.

  Args:
    preferences: [..., n, n] P(row is preferred to column).
    weights: [n, n] or [..., n, n] >= 0, how often each ordered pair is
      compared; equally often by default.
    max_steps: number of Newton steps.

  Returns:
    [..., n] rewards with mean 0.

  Raises:
    UserError: the input is bad, or there are no such finite rewards. Checked
      where values are concrete, not while they are traced.
  """
  preferences = matrix.as_game(preferences)
  n = preferences.shape[-1]
  if weights is None:
    weights = jnp.ones((n, n), jnp.float64)
  check_weights(weights, n)
  weights = jnp.asarray(weights, jnp.float64)
  weights = weights + jnp.swapaxes(weights, -1, -2)
  weights = weights * (1 - jnp.eye(n))

  def slopes(r):
    p = jax.nn.sigmoid(r[..., :, None] - r[..., None, :])
    gradient = jnp.sum(weights * (preferences - p), -1)
    w = weights * p * (1 - p)
    hessian = jnp.eye(n) * jnp.sum(w, -1)[..., None] - w
    # The constant makes the matrix invertible; the rewards' sum stays the same.
    return gradient, hessian + 1.0 / n

  def newton(_, r):
    gradient, hessian = slopes(r)
    move = jnp.linalg.solve(hessian, gradient[..., None])[..., 0]
    size = jnp.max(jnp.abs(move), -1, keepdims=True)
    return r + move / jnp.maximum(1.0, size)

  r = jnp.zeros(preferences.shape[:-1], jnp.float64)
  r = jax.lax.fori_loop(0, max_steps, newton, r)
  error = jnp.max(jnp.abs(slopes(r)[0])) / jnp.max(weights)
  if not isinstance(error, jax.core.Tracer) and not error < 1e-9:
    raise UserError(
      "no finite rewards fit these preferences.",
      where="bradley_terry_fit",
      remedy="Preferences of 0 or 1 need other pairs that contradict them.",
    )
  return r - jnp.mean(r, -1, keepdims=True)
