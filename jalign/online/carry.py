"""The carry: what an algorithm keeps from step to step.

A carry is a pytree with two pure functions, for example an EMA of the policy, a
refreshed reference, snapshots of opponents, the coefficient of a KL penalty,
Lagrange multipliers, or running baselines. It is stored in `TrainState.carry`
and is saved and restored with the train state.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jalign.errors import UserError, nearest
from jalign.glossary import in_section
from jalign.sharding import replicated
from jalign.training.state import TrainState
from jalign.types import Array, Params


class StepTaken(NamedTuple):
  """The results of a training step, from which a carry's next state is made.

  Attributes:
    params: the policy's trained parameters after all updates of the step; where
      a low-rank change is trained, only the change.
    statistics: name -> [] float32, under the names of `metrics.jsonl`: the
      round's metrics, such as `rollouts/reward_mean`; what the algorithm
      measures, as `algorithm/NAME`; and the loss's metrics, such as
      `train/log_ratio_nats`, averaged over the updates of the round.
    step: [] int32, number of steps so far, this step included.
  """

  params: Params
  statistics: Mapping[str, Array]
  step: Array


class Carry(NamedTuple):
  """Functions that make an algorithm's first state and each next state.

  Attributes:
    init: `(params, **hyperparameters) -> carry`; takes the parameters that
      training starts from.
    next: `(carry, StepTaken, **hyperparameters) -> carry` of the same
      structure, shapes and types.
  """

  init: Callable[..., Any]
  next: Callable[..., Any]


def nothing(params: Params) -> tuple[()]:
  """An empty carry."""
  del params
  return ()


def unchanged(carry: Any, taken: StepTaken) -> Any:
  """The same carry."""
  del taken
  return carry


NO_CARRY = Carry(nothing, unchanged)


def as_it_is(carry: Any, params: Params) -> Params:
  """Goes on with the parameters that a step has ended with."""
  del carry
  return params


def carry_shardings(
  carry: Carry, params: Params, param_shardings: Params, mesh: Mesh
) -> Any:
  """Shardings of a carry; copies of the parameters are sharded like these.

  Args:
    carry: functions of an algorithm's carry, with hyperparameters bound.
    params: the trained parameters, or their shapes.
    param_shardings: a tree of NamedSharding with the structure of `params`.
    mesh: the mesh on which everything else is replicated.

  Returns:
    A tree of shardings with the carry's structure. A subtree with the structure
    and shapes of the parameters has the parameters' shardings, also where its
    arrays have one more axis in front.
  """
  everywhere = replicated(mesh)
  structure: Any = jax.tree.structure(params)

  def like_parameter(x, param, sharding: NamedSharding):
    if x.shape == param.shape:
      return sharding
    if x.shape[1:] == param.shape:
      return NamedSharding(mesh, PartitionSpec(None, *sharding.spec))
    return everywhere

  def whole(part) -> bool:
    return bool(jax.tree.structure(part) == structure)

  def lay(part):
    if not whole(part):
      return everywhere
    return jax.tree.map(like_parameter, part, params, param_shardings)

  return jax.tree.map(
    lay,
    jax.eval_shape(carry.init, params),
    is_leaf=whole,
  )


def init_carry(carry: Carry, params: Params, shardings: Any = None) -> Any:
  """The carry at step 0.

  Args:
    carry: functions of an algorithm's carry, with hyperparameters bound.
    params: the trained parameters; what the carry keeps of them is a copy.
    shardings: shardings from `carry_shardings`; None on a single device.
  """
  begin = lambda params: copied(carry.init(params))
  return jax.jit(begin, out_shardings=shardings)(params)


def make_finish(
  carry: Carry,
  shardings: Any = None,
  restart: Callable[[Any, Params], Params] = as_it_is,
  param_shardings: Params = None,
) -> Callable[
  [TrainState, Mapping[str, float], Sequence[Any]], tuple[TrainState, Array]
]:
  """Makes the function that ends a step: it counts the step, updates the carry.

  Args:
    carry: functions of an algorithm's carry, with hyperparameters bound.
    shardings: shardings from `carry_shardings`, which the new carry gets; None
      on a single device.
    restart: `(new carry, trained parameters) -> trained parameters` that the
      next step starts from; by default those that this step ends with.
    param_shardings: shardings of the trained parameters; None on a single
      device.

  Returns:
    `(state, values, sums) -> (state, [] bool)`, where `values` are those of the
    round and `sums` the sums of each update. The bool says whether the new
    carry is free of NaN; infinities are allowed, as they may be intended. The
    state's carry is donated.
  """
  out = None if shardings is None else (None, shardings, None)

  @functools.partial(jax.jit, donate_argnums=0, out_shardings=out)
  def advance(old, params, step, values, sums):
    step = step + 1
    means = {name: _mean([s[name] for s in sums]) for name in sums[0]}
    statistics = _Statistics(values | in_section("train", means))
    new = copied(carry.next(old, StepTaken(params, statistics, step)))
    check_alike(old, new)
    wrong = [jnp.any(jnp.isnan(x)) for x in jax.tree.leaves(new)]
    return step, new, ~jnp.any(jnp.array(wrong, bool))

  @functools.partial(jax.jit, out_shardings=param_shardings)
  def begin(carry, params):
    # A copy, because the update donates the parameters and the carry stays.
    return copied(restart(carry, params))

  def finish(
    state: TrainState, values: Mapping[str, float], sums: Sequence[Any]
  ) -> tuple[TrainState, Array]:
    # Seconds differ between processes, which compute the same carry.
    numbers = {
      name: jnp.float32(value)
      for name, value in values.items()
      if not name.startswith("time/")
    }
    step, new, sound = advance(
      state.carry, state.params, state.step, numbers, list(sums)
    )
    state = state.replace(step=step, carry=new)
    if restart is not as_it_is:
      state = state.replace(params=begin(new, state.params))
    return state, sound

  return finish


def beside_carry(
  update: Callable[..., Any], reference: Callable[[Any, Params], Params]
) -> Callable[..., Any]:
  """Wraps an update so that it keeps the carry and takes its reference from it.

  The carry isn't passed to the update, because the update donates its state.

  Args:
    update: an update from `make_update`.
    reference: `(carry, start) -> the reference's parameters`.

  Returns:
    `(state, batch, start=None, frozen=None) -> (state, sums)`.
  """

  def update_beside(
    state: TrainState, batch: Any, start: Params = None, frozen: Params = None
  ):
    carry = state.carry
    ref_params = reference(carry, start)
    state, sums = update(state.replace(carry=()), batch, ref_params, frozen)
    return state.replace(carry=carry), sums

  return update_beside


class _Statistics(dict):
  """A dictionary that raises UserError for an unknown name."""

  def __missing__(self, name: str):
    raise UserError(
      f"it asks for {name!r}, which a step of this algorithm doesn't measure.",
      where="carry.next",
      remedy=nearest(name, sorted(self)),
    )


def _mean(parts: Sequence[tuple[Array, Array]]) -> Array:
  totals, counts = zip(*parts)
  return jnp.float32(sum(totals)) / jnp.maximum(jnp.float32(sum(counts)), 1e-30)


def copied(tree: Any) -> Any:
  """Copies arrays, with the dtypes with which a checkpoint restores them."""
  return jax.tree.map(
    lambda x: jnp.array(x, jnp.result_type(x), copy=True), tree
  )


def check_alike(old: Any, new: Any) -> None:
  """Raises UserError unless `next` returns what `init` does.

  Structure, shapes and dtypes have to be the same.
  """

  def shapes(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
      jax.tree_util.keystr(path) or "it": f"{x.dtype}{list(x.shape)}"
      for path, x in leaves
    }

  before, after = shapes(old), shapes(new)
  for name in before.keys() | after.keys():
    if before.get(name) != after.get(name):
      raise UserError(
        f"{name} was {before.get(name)} before and is {after.get(name)} after.",
        where="carry.next",
        remedy="Return the structure, shapes and dtypes that init returns.",
      )
