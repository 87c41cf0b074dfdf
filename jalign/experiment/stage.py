"""One stage: from parameters to better parameters, inside its folder."""

import contextlib
import functools
from typing import Any, NamedTuple

import jax

from jalign import diagnostics
from jalign.experiment import feed, resume
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.config.streams import stream
from jalign.experiment.context import Run
from jalign.experiment.held_out import (
  Evaluation,
  measure_loss,
  measure_samples,
  measure_wins,
)
from jalign.experiment.loss import bind
from jalign.experiment.params import layout, trainable_of
from jalign.experiment.probe import make_probes, probe_data
from jalign.models import transformer
from jalign.sharding import (
  shardings,
)
from jalign.training import loop, metrics, reference
from jalign.training.checkpoint import Checkpoints
from jalign.training.objective import make_objective
from jalign.training.optimizer import make_optimizer, make_schedule
from jalign.training.state import init_state, state_shardings
from jalign.training.step import make_update


class StageResult(NamedTuple):
  """What a stage leaves.

  Attributes:
    params: that the next stage starts from.
    step: of these parameters.
    evaluation: last or best held-out metrics.
    loss: title of the loss.
  """

  params: Any
  step: int
  evaluation: dict[str, float]
  loss: str


def run_stage(run: Run, stage: StageSettings, params: Any) -> StageResult:
  """Trains one stage, resuming from its newest checkpoint if there is one.

  Args:
    run: what the stages share.
    stage: this one's settings.
    params: to start from; also the reference of a loss that has one.
  """
  folder = run.folder / stage.name
  model = transformer(run.model_config)
  loss = bind(stage)
  steps = feed.total_steps(stage, run.prepared)
  optimizer = make_optimizer(stage.optimizer, steps)
  part = trainable_of(run.model_config, stage)
  key = jax.random.key(stream(run.seed, "trainable", stage.name))
  begin = lambda policy: part.start(policy, key)
  frozen = part.frozen(params)
  policy = lambda trained: part.join(trained, frozen)
  placement = state_shardings(
    optimizer,
    jax.eval_shape(begin, params),
    shardings(part.specs, run.mesh, run.model_config.rules),
    run.mesh,
  )
  objective = make_objective(
    loss.function,
    model,
    batch=loss.batch,
    denominator=loss.denominator,
    coupled=loss.coupled,
  )
  trained = (
    diagnostics.normalised(objective, model)
    if stage.normalise_pairs
    else objective
  )
  update = make_update(
    trained,
    optimizer,
    placement,
    microbatches=stage.microbatches,
    join=part.join,
    watch=diagnostics.watch_pairs
    if stage.diagnostics.entanglement in ("step", "both")
    else None,
  )
  ref_params = params if objective.needs_reference or stage.algorithm else None

  meta = resume.meta_of(
    stage, reference.fingerprint(params, ()), run.seed, run.needs[stage.name]
  )
  run.sharing.take(stage, meta, steps)
  checkpoints = Checkpoints(folder / "checkpoints")
  best = Checkpoints(folder / "best") if stage.select else None
  state = init_state(params, optimizer, placement, begin)
  batches = feed.batches_of(run, stage, loss)
  reached = -1
  if checkpoints.latest() is not None:
    restored = checkpoints.restore(state)
    resume.check_state(restored.meta, meta, folder)
    reached = int(restored.state.step)
    resume.check_metrics(
      restored.meta, reached, folder, stage.select, run.anyway
    )
    state = restored.state
    batches.set_state(restored.data)
    print(f"[{stage.name}] resumes at step {int(state.step)} of {steps}")
  checkpoints.discard_after(reached)  # damaged ones, for one
  if best is not None:
    best.discard_after(reached)
    resume.check_best(best, meta, folder)
  print(f"[{stage.name}] {steps} steps; {batches.report.summary()}")
  if part.title:
    share = _count(state.params), _count(params)
    print(
      f"[{stage.name}] trains {part.title}: {share[0]:,} numbers beside"
      f" {share[1]:,}"
    )
  packing = feed.packing_of(stage, loss.batch, run.mesh)
  if packing is not None:
    report = run.prepared.stages[stage.name].packing_report(
      loss.batch, stage.batch_size, packing
    )
    print(f"[{stage.name}] {report.summary()}")
  table = None
  if stage.reference == "precompute" and objective.needs_reference:
    table = feed.reference_table(run, stage, loss, model, params)
    ref_params = None

  if stage.algorithm:
    assert run.annotator is not None  # check_stage saw to it
    measure = measure_wins(
      run.prepared,
      model,
      run.annotator,
      run.sample,
      params,
      stream(run.seed, "held out", stage.name),
    )
  else:
    measure = measure_loss(
      run.prepared.stages[stage.name],
      run.mesh,
      objective,
      loss.batch,
      stage.batch_size,
      params if objective.needs_reference else None,
    )
  evaluate = Evaluation(lambda p: measure(policy(p)), stage, folder, best, meta)
  probes = make_probes(
    probe_data(run.prepared, stage) if stage.diagnostics.probes else None,
    _samples(run, stage, model, params),
    policy,
    stage,
    steps,
    mesh=run.mesh,
    model=model,
    objective=objective,
    loss=loss,
    part=part,
    frozen=frozen,
    reference=params,
    folder=folder,
  )
  writers = [
    metrics.JsonlWriter(folder / "metrics.jsonl"),
    metrics.TensorBoardWriter(folder / "tensorboard"),
    *run.extra_writers(stage.name),
  ]
  writer = metrics.write_all(writers)
  writer.truncate_after(reached)
  save = lambda state, position: checkpoints.save(
    state, data=position, meta=resume.with_metrics(meta, folder)
  )

  def should_stop() -> bool:
    checkpoints.check()  # a save that failed is told of at the next step
    return run.should_stop()

  with contextlib.ExitStack() as stack:
    stack.callback(writer.close)
    stack.callback(checkpoints.close)
    if best is not None:
      stack.callback(best.close)
    if int(state.step) == 0 and stage.judge:
      writer.write(0, evaluate(0, state))
    if int(state.step) == 0:
      for probe in probes:
        writer.write(0, probe.measure(0, state))
    state = loop.run(
      state,
      steps=steps,
      batches=batches,
      prepare=feed.prepare_of(run, stage, model, policy, ref_params, table),
      update=functools.partial(update, frozen=frozen),
      ref_params=ref_params,
      write=writer.write,
      log_every=stage.log_every,
      probes=[loop.Probe(stage.eval_every or steps, evaluate), *probes],
      save=save,
      save_every=stage.save_every,
      should_stop=should_stop,
      learning_rate=make_schedule(stage.optimizer, steps),
      description=stage.name,
    )
    step, chosen = int(state.step), state.params
    best_step = best.latest() if best is not None else None
    if best is not None and best_step is not None:
      step, chosen = best_step, best.restore_params(state.params)
    evaluation = evaluate.last(step)
  if part.title:
    where = layout(run.model_config, run.mesh)
    chosen = jax.jit(part.whole, out_shardings=where)(policy(chosen))
  return StageResult(chosen, step, evaluation, loss.title)


def _samples(run: Run, stage: StageSettings, model, params):
  """What is measured of held-out samples, None for nothing."""
  count = stage.diagnostics.samples
  if not count:
    return None
  seed = stream(run.seed, "diagnostics", stage.name)
  return measure_samples(
    run.prepared,
    model,
    run.annotator,
    run.measures,
    run.sample,
    params,
    count,
    seed,
  )


def _count(params) -> int:
  return sum(x.size for x in jax.tree.leaves(params))
