"""A training step in which neither response of a pair moves the wrong way.

Yuan et al. 2024, arXiv:2410.13828, propose to normalise the two gradients of a
pair. The published form isn't established: this is our reading, with the loss's
own pulls.
"""

import jax
import jax.numpy as jnp

from jalign.diagnostics.entanglement import ALL, gradient_products
from jalign.logprobs import sequence_logprobs
from jalign.training.objective import Objective
from jalign.types import Model


def normalised(objective: Objective, model: Model) -> Objective:
  """The objective with each response's gradient divided by its norm.

  A pair pulls along d_w g_w / |g_w| - d_l g_l / |g_l|, where d_w and d_l are
  the loss's. To first order, the pair by itself changes log pi(y_w) by
  d_w |g_w| - d_l cos |g_w|, which is never negative if d_w = d_l (see
  `normalised_pulls`). Values and metrics are those of the given objective; only
  the gradient differs. The norms cost one more backward pass, response by
  response. The other pairs of a batch still interfere. The step's size differs,
  too: long responses have large gradients, but count no more than short ones
  here.

  Args:
    objective: objective of a loss on pairs.
    model: functions of its policy.
  """

  def sums(params, data, ref_params=None, counts=None):
    held = jax.lax.stop_gradient(params)
    zeros = objective.nudge(held, data)
    pull, (count, metrics, _) = jax.grad(
      lambda nudge: objective.nudged(held, nudge, data, ref_params, counts),
      has_aux=True,
    )(zeros)
    total = metrics["loss"][0]
    logps = lambda p, rows: sequence_logprobs(model, p, rows)
    products = gradient_products(logps, held, data.sequences, ALL)
    squares = jnp.stack([products.chosen["all"], products.rejected["all"]], -1)
    norms = jnp.sqrt(squares).reshape(-1)
    weights = jnp.where(norms > 0, pull.logps / jnp.maximum(norms, 1e-30), 0.0)
    moved = jnp.sum(
      jax.lax.stop_gradient(weights)
      * logps(params, data.sequences.replace(packed=None))
    )
    return total + moved - jax.lax.stop_gradient(moved), (count, metrics)

  return objective._replace(sums=sums)
