"""One update: gradients of sums, divided once, clipped and applied."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jalign.errors import UserError
from jalign.training.kinds import Sums
from jalign.training.objective import Objective
from jalign.training.offload import on_device
from jalign.training.outputs import Nudge
from jalign.training.state import TrainState
from jalign.types import Array, Params


def make_update(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  shardings: TrainState | None = None,
  *,
  microbatches: int = 1,
  join: Callable[[Params, Params], Params] = lambda trained, frozen: trained,
  watch: Callable[[Nudge, Array, Any], Sums] | None = None,
  counts: bool = True,
) -> Callable[..., tuple[TrainState, dict[str, Any]]]:
  """Makes the jitted update.

  Microbatches add up unreduced sums of losses, gradients and counts, and the
  division happens once. So accumulation equals the full batch, whatever its
  lengths and weights. The state is donated.

  Args:
    objective: from `make_objective`.
    optimizer: the optimiser, with clipping (see jalign.training.optimizer).
    shardings: shardings of the state. The outputs are pinned to them: otherwise
      the compiler's choice comes back, and every program compiles again.
    microbatches: parts that a batch is cut into, a divisor of its examples.
    join: makes the policy from the state's parameters and those that aren't
      trained (see jalign.training.trainable).
    watch: `(gradient, hidden, batch) -> more metrics`, computed from what the
      backward pass of each microbatch knows per row: the loss's gradient by a
      Nudge, and the states that the Nudge is added to. It can't be used with
      packed batches.
    counts: whether an update is a step of the state; False if a step has
      several updates and something else counts it.

  Returns:
    `(state, batch, ref_params=None, frozen=None) -> (state, sums)`; the sums
    are the objective's metrics and `grad_norm` before clipping.

  Raises:
    UserError: a coupled loss is given more than one microbatch.
  """
  if objective.coupled and microbatches > 1:
    raise UserError(
      "the loss couples the examples of a batch, so it can't be accumulated"
      " over microbatches.",
      where="microbatches",
      remedy="Set microbatches to 1.",
    )

  def sums_of(params, frozen, *arguments):
    return objective.sums(join(params, frozen), *arguments)

  def nudged(params, nudge, frozen, *arguments):
    return objective.nudged(join(params, frozen), nudge, *arguments)

  gradient = jax.value_and_grad(sums_of, has_aux=True)
  both = jax.value_and_grad(nudged, argnums=(0, 1), has_aux=True)

  def watched(params, frozen, part, *arguments):
    assert watch is not None
    nudge = objective.nudge(join(params, frozen), part, hidden=True)
    (total, aux), grads = both(params, nudge, frozen, part, *arguments)
    count, sums, hidden = aux
    return (total, (count, sums | watch(grads[1], hidden, part))), grads[0]

  take = gradient if watch is None else watched

  def accumulate(params, frozen, batch, ref_params):
    counts = objective.counts(batch)
    gradient_of = lambda part: take(params, frozen, part, ref_params, counts)
    if microbatches == 1:
      return gradient_of(batch)
    parts = split_batch(batch, microbatches)
    zeros = jax.tree.map(
      lambda s: jnp.zeros(s.shape, s.dtype),
      jax.eval_shape(gradient_of, jax.tree.map(lambda x: x[0], parts)),
    )
    add = lambda total, part: (
      jax.tree.map(jnp.add, total, gradient_of(part)),
      None,
    )
    return jax.lax.scan(add, zeros, parts)[0]

  # None, for a single device, leaves the layout to the compiler.
  out = None if shardings is None else (shardings, None)

  @functools.partial(jax.jit, donate_argnums=0, out_shardings=out)
  def update(
    state: TrainState, batch: Any, ref_params: Any = None, frozen: Any = None
  ):
    (_, (count, sums)), grads = accumulate(
      state.params, frozen, batch, on_device(ref_params)
    )
    grads = jax.tree.map(lambda g: g / jnp.maximum(count, 1e-30), grads)
    held = on_device(state.opt_state)
    updates, opt_state = optimizer.update(grads, held, state.params)
    params = optax.apply_updates(state.params, updates)
    sums |= {"grad_norm": (optax.tree.norm(grads), jnp.float32(1))}
    step = state.step + 1 if counts else state.step
    return state.replace(step=step, params=params, opt_state=opt_state), sums

  return update


def split_batch(batch: Any, parts: int) -> Any:
  """Cuts every leaf [R * X, ...] of R examples into [parts, R / parts * X].

  Every `parts`-th example goes to the same part, so that an example stays on
  the device that holds it; the rows of one example stay together. In a packed
  batch, every `parts`-th group of examples goes to the same part.

  Raises:
    UserError: the examples, or their groups, can't be divided into the parts.
  """
  packed = getattr(getattr(batch, "sequences", None), "packed", None)
  what = "examples" if packed is None else "groups of packed examples"
  examples = len(batch.weights if packed is None else packed.tokens)
  if examples % parts:
    raise UserError(
      f"a batch of {examples} {what} doesn't divide into {parts} parts.",
      where="microbatches",
      remedy="Choose a divisor of the batch size.",
    )

  def cut(x):
    rows = x.shape[0] // examples
    x = x.reshape(examples // parts, parts, rows, *x.shape[1:])
    return jnp.moveaxis(x, 1, 0).reshape(parts, -1, *x.shape[3:])

  return jax.tree.map(cut, batch)
