"""Assembles a stage, from settings to updates; writes and prints nothing.

Runs, the scripts of papers, and anyone who asks what a stage would need, use
it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from jalign import data, diagnostics
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.context import Materials
from jalign.experiment.heads import head_of
from jalign.experiment.loss import BoundLoss, bind
from jalign.experiment.params import trainable_of
from jalign.experiment.regimes import regime_of
from jalign.experiment.reward_start import begins_from
from jalign.models import transformer
from jalign.sharding import laid, shardings
from jalign.training.critic import (
  critic_of,
  has_critic,
  optimizer_beside,
  policy_of,
)
from jalign.training.objective import Objective, make_objective
from jalign.training.offload import OPTIMIZER, on_device
from jalign.training.optimizer import make_optimizer, make_schedule
from jalign.training.state import (
  TrainState,
  init_state,
  state_shapes,
  state_shardings,
)
from jalign.training.step import make_update
from jalign.training.trainable import Trainable
from jalign.types import Model, Params


class Assembly(NamedTuple):
  """The parts of a stage, made for each other.

  Attributes:
    loss: the loss with its hyperparameters.
    model: functions of policy and reference.
    steps: number of steps of the whole stage.
    learning_rate: step -> learning rate; of a step's several updates, the first
      one's.
    objective: the objective of the loss.
    part: which part of the policy is trained.
    frozen: the other parameters of the policy, and of a critic if there is one.
    policy: `trained parameters -> the policy's parameters`.
    whole: the same for trained parameters; keeps a policy's parameters.
    critic: `trained parameters -> a critic's parameters`, if there is a critic.
    reference: parameters of the reference; None if there is none.
    shapes: `() -> TrainState` of a state's shapes and shardings.
    init: `() -> TrainState` at step 0.
    update: `(state, batch, ref_params) -> (state, sums)`.
    lower: lowers the program that `update` runs, with arguments as for
      `update`, or their shapes and shardings; for `platforms`, by default that
      of the arguments' devices.
    finish: ends a step of several updates, see `Stepping`; or None.
    batches: `() -> Loader`.
    prepare: `(reference's parameters or None, table of its log-probs or None)`
      -> `(state, batch) -> loop.Placed`.
  """

  loss: BoundLoss
  model: Model
  steps: int
  learning_rate: optax.Schedule
  objective: Objective
  part: Trainable
  frozen: Params
  policy: Callable[[Params], Params]
  whole: Callable[[Params], Params]
  critic: Callable[[Params], Params]
  reference: Params | None
  shapes: Callable[[], TrainState]
  init: Callable[[], TrainState]
  update: Callable[..., tuple[TrainState, dict[str, Any]]]
  lower: Callable[..., jax.stages.Lowered]
  finish: Callable[..., tuple[TrainState, Any]] | None
  batches: Callable[[], data.Loader]
  prepare: Callable[..., Callable[..., Any]]


def assemble(given: Materials, stage: StageSettings, params: Any) -> Assembly:
  """Assembles a stage.

  Args:
    given: model, mesh, data and judge.
    stage: the stage's settings.
    params: parameters to start from; also the reference of a loss that has one.

  Raises:
    UserError: a setting makes no sense; the error names its key.
  """
  regime, loss = regime_of(stage), bind(stage)
  model = transformer(given.model_config, given.decode_tensor)
  steps = regime.total_steps(stage, given.dataset, loss.batch)
  part = trainable_of(given.model_config, stage)
  key = jax.random.key(given.seed_of("trainable"))
  begin = lambda start: part.start(on_device(start), key)
  start = begins_from(given, stage, params)
  frozen = part.frozen(start)
  policy = lambda trained: policy_of(part.join(trained, frozen))
  critic = lambda trained: critic_of(part.join(trained, frozen))
  trained = jax.eval_shape(begin, start)
  where = shardings(part.specs, given.mesh, given.model_config.rules)
  whole = _whole(policy, trained)
  stepping = regime.stepping_of(given, stage, trained, where, whole)
  per_step = regime.updates_of(stage)
  optimizer = (
    optimizer_beside(stage.optimizer, steps * per_step, stage.critic, per_step)
    if has_critic(trained)
    else make_optimizer(stage.optimizer, steps * per_step)
  )
  schedule = make_schedule(stage.optimizer, steps * per_step)
  placement = state_shardings(
    optimizer, trained, where, given.mesh, offload=OPTIMIZER in stage.offload
  )
  objective = make_objective(
    loss.function,
    model,
    batch=loss.batch,
    denominator=loss.denominator,
    coupled=loss.coupled,
    head=head_of(given.model_config, stage),
  )
  update = make_update(
    diagnostics.normalised(objective, model)
    if stage.normalise_pairs
    else objective,
    optimizer,
    placement,
    microbatches=stage.microbatches,
    join=part.join,
    watch=diagnostics.watch_pairs
    if stage.diagnostics.entanglement in ("step", "both")
    else None,
    counts=stepping.finish is None,
  )

  def init() -> TrainState:
    state = init_state(start, optimizer, placement, begin)
    return state.replace(carry=stepping.init(state.params))

  def lower(state, batch, ref_params=None, *, platforms=None):
    program: Any = update
    # A step does to the arguments what it does before an update.
    traced = stepping.around(
      lambda s, *more, **named: (s, program.trace(s, *more, **named))
    )
    program = traced(state, batch, ref_params, frozen=frozen)[1]
    return program.lower(lowering_platforms=platforms)

  def shapes() -> TrainState:
    state = state_shapes(start, optimizer, placement, begin)
    carry = jax.eval_shape(stepping.init, state.params)
    return state.replace(carry=laid(carry, stepping.shardings))

  compared = objective.needs_reference or stage.samples
  return Assembly(
    loss=loss,
    model=model,
    steps=steps,
    learning_rate=lambda step: schedule(step * per_step),
    objective=objective,
    part=part,
    frozen=frozen,
    policy=policy,
    whole=whole,
    critic=critic,
    reference=params if compared else None,
    shapes=shapes,
    init=init,
    update=functools.partial(stepping.around(update), frozen=frozen),
    lower=lower,
    finish=stepping.finish,
    batches=lambda: regime.batches_of(given, stage, loss),
    prepare=functools.partial(
      regime.prepare_of,
      given,
      stage,
      model,
      whole,
      critic,
    ),
  )


def _whole(
  policy: Callable[[Params], Params], trained: Params
) -> Callable[[Params], Params]:
  """Makes policies of trees with the structure of `trained`; keeps others."""
  form: Any = jax.tree.structure(trained)

  def whole(params: Params) -> Params:
    return policy(params) if jax.tree.structure(params) == form else params

  return whole
