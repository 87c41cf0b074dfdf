"""The training state: a pytree of arrays, and its shardings."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from jalign.sharding import replicated
from jalign.types import Params


class TrainState(struct.PyTreeNode):
  """All that a step changes; or the shardings of it, in the same tree.

  Attributes:
    step: [] int32 steps so far; a step of an online stage may be several
      updates.
    params: the policy's parameters.
    opt_state: the optimiser's state.
    carry: what an online algorithm keeps from step to step, in any pytree.
  """

  step: Any
  params: Params
  opt_state: optax.OptState
  carry: Any = ()


def state_shardings(
  optimizer: optax.GradientTransformation,
  params: Params,
  param_shardings: Params,
  mesh: Mesh,
) -> TrainState:
  """Shardings of a state: moments lie where their parameters lie.

  Left to itself `jit(optimizer.init)` would replicate them.

  Args:
    optimizer: whose state it is.
    params: the parameters, or their shapes.
    param_shardings: a tree of NamedSharding of the same structure.
    mesh: where everything else is replicated.
  """
  everywhere = replicated(mesh)
  shapes = jax.eval_shape(optimizer.init, params)
  moments = optax.tree_utils.tree_map_params(
    optimizer,
    lambda _, sharding: sharding,
    shapes,
    param_shardings,
    transform_non_params=lambda _: everywhere,
  )
  return TrainState(everywhere, param_shardings, moments)


def init_state(
  params: Params,
  optimizer: optax.GradientTransformation,
  shardings: TrainState | None = None,
  start: Callable[[Params], Params] = lambda params: params,
) -> TrainState:
  """The state at step 0, built by one jitted program.

  The parameters are copied: updates donate the state, and the caller's arrays
  may serve as the reference.

  Args:
    params: to start from.
    optimizer: whose state is made.
    shardings: from `state_shardings`; None on a single device.
    start: `params -> the trained ones`, where these are a part, or a change.
  """

  def build(params):
    params = jax.tree.map(jnp.copy, start(params))
    return TrainState(jnp.int32(0), params, optimizer.init(params))

  return jax.jit(build, out_shardings=shardings)(params)
