"""MetaRM: a reward model's loss, evaluated after a step that spreads scores.

A policy that is trained against a reward model soon draws responses that the
reward model hardly tells apart. MetaRM moves the reward model so that it does,
and asks for parameters whose loss on the labelled pairs is low there.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from jalign.data import ScoreBatch
from jalign.errors import UserError
from jalign.training.objective import Objective
from jalign.types import Array, Params


class LookAheadBatch(struct.PyTreeNode):
  """Labelled pairs, and samples of a policy that has moved.

  Attributes:
    pairs: the pairs, as the outer objective takes them.
    samples: K responses of the policy to each of some prompts.
  """

  pairs: ScoreBatch
  samples: ScoreBatch

  @property
  def weights(self) -> Array:
    """[B] weights of the pairs."""
    return self.pairs.weights


def look_ahead(
  objective: Objective,
  spread: Objective,
  step_size: float,
  moved: Callable[[Params], Params] = lambda gradient: gradient,
) -> Objective:
  """MetaRM's first-order objective, on `LookAheadBatch`.

  L(t + c),  c = step_size grad J(t),  a constant

  L is the loss on the pairs and J the mean of `losses.score_spread` over the
  samples' prompts. The gradient is that of L at t + c, and is applied to t.
  Step size 0 is plain training.

  The inner gradient belongs to the whole batch, so the objective is coupled.
  The whole parameters move, the model's and the head's; where only a part is
  trained, let `moved` set the gradient of the others to 0.

  Wang et al. 2024, "Secrets of RLHF in Large Language Models Part II: Reward
  Modeling", arXiv:2401.06080, section 4.

  Args:
    objective: the outer objective, of the pairs.
    spread: the inner objective, which is raised:
      `make_objective(losses.score_spread, model, batch="scores", head=head)`.
    step_size: size of the inner step, >= 0; the paper doesn't state its value.
    moved: `gradient -> gradient`, applied to the inner gradient.

  Raises:
    UserError: the step size is negative or no number.
  """
  if not 0 <= step_size < float("inf"):
    raise UserError(f"{step_size} must be >= 0 and finite.", where="step_size")

  def sums(params, batch, ref_params=None, counts=None):
    value = lambda p: spread.sums(p, batch.samples)
    gradient, (prompts, inner) = jax.grad(value, has_aux=True)(params)
    step = step_size / jnp.maximum(prompts, 1e-30)
    ahead = jax.tree.map(
      lambda p, g: p + jax.lax.stop_gradient((step * g).astype(p.dtype)),
      params,
      moved(gradient),
    )
    total, (count, metrics) = objective.sums(
      ahead, batch.pairs, ref_params, counts
    )
    return total, (count, metrics | {"score_spread": inner["loss"]})

  def refuse(*arguments, **options):
    del arguments, options
    raise UserError(
      "gradients by single rows aren't defined for a look-ahead.",
      where="diagnostics",
      remedy="Turn off the diagnostics of gradients.",
    )

  return Objective(
    sums=sums,
    counts=lambda batch: objective.counts(batch.pairs),
    needs_reference=objective.needs_reference,
    coupled=True,
    nudged=refuse,
    nudge=refuse,
  )
