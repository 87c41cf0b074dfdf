"""Measures entanglement in every step, from the step's own backward pass.

The parameter is a linear map on the final states of a row, just below the head:
h -> h + A h at A = 0. A log-prob's gradient by A is sum_t c_t h_t', where c_t
is its gradient by the state h_t, which the backward pass computes anyway. The
product of two such gradients is the sum over pairs of tokens of
(c_i . c_j)(h_i . h_j). So no gradient of a parameter is formed, and no
vocabulary is involved. The map stands for a part of the parameters only:
`gradient_products` measures all of them, at the cost of a backward pass.
"""

import jax.numpy as jnp

from jalign.diagnostics.entanglement import case_shares, forecast
from jalign.training.kinds import Sums
from jalign.training.outputs import Nudge
from jalign.types import Array


def state_products(
  hidden: Array, gradients: Array
) -> tuple[Array, Array, Array]:
  """Products of pairs' gradients by a linear map on the final states.

  Args:
    hidden: [2P, T, D] states, chosen and rejected alternating.
    gradients: [2P, T, D] gradients by these states.

  Returns:
    Three arrays [P] float32: squared norms of the chosen rows' gradients, those
    of the rejected rows' gradients, and inner products of the two.
  """
  cut = lambda x: x.reshape(-1, 2, *x.shape[1:]).astype(jnp.float32)
  h, c = cut(hidden), cut(gradients)
  # Batched by pair, since a pair's two rows lie on one device.
  dot = lambda x, i, j: jnp.einsum("ptd,psd->pts", x[:, i], x[:, j])
  both = lambda i, j: jnp.sum(dot(h, i, j) * dot(c, i, j), (-2, -1))
  return both(0, 0), both(1, 1), both(0, 1)


def watch_pairs(gradient: Nudge, hidden: Array, batch) -> Sums:
  """What `make_update` watches: forecasts for a batch's pairs, last layer only.

  The gradient of a pair's loss by A is -d_w g_w on its chosen row and d_l g_l
  on its rejected row, so that a step is forecast without further coefficients.

  Args:
    gradient: gradient of the summed loss, with `logps` and `hidden`.
    hidden: [2P, T - 1, D] states.
    batch: a PairBatch.

  Returns:
    Over the pairs that the loss pulls on: means of the cosine, and of the
    largest cosine at which chosen rises and rejected falls; shares of the
    cases. Over all pairs: the share that the loss pulls on.
  """
  assert gradient.hidden is not None
  chosen, rejected, inner = state_products(hidden, gradient.hidden)
  pull = gradient.logps.reshape(-1, 2)
  d_w, d_l = -pull[:, 0], pull[:, 1]
  live = (batch.weights > 0) & (chosen > 0) & (rejected > 0)
  per = lambda x, d: x / jnp.where(d == 0, 1.0, d)
  predicted = forecast(
    per(chosen, d_w * d_w),
    per(rejected, d_l * d_l),
    per(-inner, d_w * d_l),
    d_w,
    d_l,
  )
  count = jnp.sum(live).astype(jnp.float32)
  mean = lambda x: (jnp.sum(jnp.where(live, x, 0.0)), count)
  values = {
    "cosine": predicted.cosine,
    "cosine_threshold": predicted.cosine_threshold,
  }
  sums = {
    name: mean(x) for name, x in (values | case_shares(predicted)).items()
  }
  pairs = jnp.sum(batch.weights > 0).astype(jnp.float32)
  sums["pulled_share"] = (count, pairs)
  return {f"last_layer_{name}": value for name, value in sums.items()}
