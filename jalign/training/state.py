"""The training state: a pytree of arrays, and its shardings."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from jalign.sharding import laid, replicated
from jalign.training.offload import on_device, to_host
from jalign.types import Params


class TrainState(struct.PyTreeNode):
  """Everything that a step changes; or, in the same tree, its shardings.

  Attributes:
    step: [] int32, number of steps so far; a step of an online stage may be
      several updates.
    params: the policy's trained parameters.
    opt_state: the optimiser's state.
    carry: any pytree that an online algorithm keeps from step to step.
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
  *,
  offload: bool = False,
) -> TrainState:
  """Shardings of a state: moments are sharded like their parameters.

  By itself, `jit(optimizer.init)` would replicate the moments.

  Args:
    optimizer: the optimiser whose state is sharded.
    params: the parameters, or their shapes.
    param_shardings: a tree of NamedSharding of the same structure.
    mesh: the mesh on which everything else is replicated.
    offload: whether the moments lie in the host's memory between updates.
  """
  everywhere = replicated(mesh)
  shapes = jax.eval_shape(optimizer.init, params)
  moments = optax.tree_utils.tree_map_params(
    optimizer,
    lambda _, sharding: to_host(sharding) if offload else sharding,
    shapes,
    param_shardings,
    transform_non_params=lambda _: everywhere,
  )
  return TrainState(everywhere, param_shardings, moments)


def state_shapes(
  params: Params,
  optimizer: optax.GradientTransformation,
  shardings: TrainState,
  start: Callable[[Params], Params] = lambda params: params,
) -> TrainState:
  """Shapes and shardings of the state that `init_state` builds.

  Args:
    params: the parameters to start from, or their shapes.
    optimizer: the optimiser whose state is made.
    shardings: from `state_shardings`.
    start: as in `init_state`.
  """
  shapes = jax.eval_shape(
    functools.partial(_build, optimizer=optimizer, start=start), params
  )
  return laid(shapes, shardings)


def _build(params, *, optimizer, start):
  params = jax.tree.map(jnp.copy, start(on_device(params)))
  return TrainState(jnp.int32(0), params, optimizer.init(params))


def init_state(
  params: Params,
  optimizer: optax.GradientTransformation,
  shardings: TrainState | None = None,
  start: Callable[[Params], Params] = lambda params: params,
) -> TrainState:
  """The state at step 0, built by one jitted program.

  The parameters are copied, since updates donate the state, and the caller's
  arrays may serve as the reference.

  Args:
    params: the parameters to start from.
    optimizer: the optimiser whose state is made.
    shardings: from `state_shardings`; None on a single device.
    start: `params -> trained parameters`, where only a part of the parameters
      is trained, or a change of them.
  """

  build = functools.partial(_build, optimizer=optimizer, start=start)
  return jax.jit(build, out_shardings=shardings)(params)
