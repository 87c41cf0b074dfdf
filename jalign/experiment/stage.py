"""One stage: from parameters to better parameters, inside its folder."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jalign import data
from jalign.decode import sampler
from jalign.errors import UserError
from jalign.experiment.held_out import (
  Evaluation,
  measure_loss,
  measure_wins,
)
from jalign.experiment.loss import BoundLoss, bind
from jalign.experiment.params import layout, trainable_of
from jalign.experiment.prepare import Prepared, place
from jalign.experiment.settings import SamplerSettings, StageSettings
from jalign.experiment.streams import stream
from jalign.feedback import Annotator
from jalign.models import transformer
from jalign.sharding import (
  BATCH_AXES,
  axis_size,
  batch_sharding,
  shardings,
)
from jalign.training import loop, metrics, online, reference
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


class Run(NamedTuple):
  """What all stages of a run share.

  Attributes:
    folder: of the run.
    prepared: data and tokenizer.
    model_config: of policy and reference.
    mesh: that everything lies on.
    seed: of the run.
    annotator: None where the config names none.
    sample: how responses are drawn for evaluation, and their length.
    should_stop: polled after each step.
    extra_writers: metric writers beside the run's own.
  """

  folder: pathlib.Path
  prepared: Prepared
  model_config: Any
  mesh: Any
  seed: int
  annotator: Annotator | None
  sample: SamplerSettings
  should_stop: Callable[[], bool]
  extra_writers: Callable[[str], list[Any]]


def total_steps(stage: StageSettings, prepared: Prepared) -> int:
  """Updates of a stage: its steps, or its epochs times batches an epoch."""
  if stage.steps:
    return stage.steps
  if stage.algorithm:
    raise UserError(
      "online training has no epochs.",
      where=f"config.{stage.name}.steps",
      remedy="Set the number of steps.",
    )
  dataset, batch = prepared.stages[stage.name], bind(stage).batch
  dataset.check(batch, f"config.{stage.name}.data")
  per_epoch = data.batches_per_epoch(
    dataset.lengths(batch, "train"),
    stage.batch_size,
    dataset.buckets_of(_packing(stage, batch)),
  )
  return per_epoch * stage.epochs


def _packing(
  stage: StageSettings, batch: str, mesh: jax.sharding.Mesh | None = None
) -> data.Packing | None:
  """How a stage's batches are packed, None where they aren't.

  Examples of one shard and one microbatch are packed together; without a mesh
  the groups are left open.
  """
  share = stage.share_prefix and batch in data.SEVERAL_RESPONSES
  if not stage.packing and not share:
    return None
  shards = 1 if mesh is None else axis_size(mesh, BATCH_AXES)
  return data.Packing(stage.packing, share, shards * stage.microbatches)


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
  steps = total_steps(stage, run.prepared)
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
  update = make_update(
    objective,
    optimizer,
    placement,
    microbatches=stage.microbatches,
    join=part.join,
  )
  ref_params = params if objective.needs_reference or stage.algorithm else None

  checkpoints = Checkpoints(folder / "checkpoints")
  best = Checkpoints(folder / "best") if stage.select else None
  meta = {
    "stage": dataclasses.asdict(stage),
    "start": reference.fingerprint(params, ()),
  }
  state = init_state(params, optimizer, placement, begin)
  batches = _batches(run, stage, loss)
  resumed = checkpoints.latest() is not None
  if resumed:
    restored = checkpoints.restore(state)
    if restored.meta.get("start") != meta["start"]:
      raise UserError(
        "its checkpoints were made from another start: an earlier stage, or"
        " the run that this one begins from, was trained anew.",
        where=str(folder),
        remedy="Delete this folder; the same command trains the stage again.",
      )
    state = restored.state
    batches.set_state(restored.data)
    print(f"[{stage.name}] resumes at step {int(state.step)} of {steps}")
  reached = int(state.step) if resumed else -1
  checkpoints.discard_after(reached)  # damaged ones, for one
  if best is not None:
    best.discard_after(reached)
    best.latest()  # if all are damaged, that's better known now
  print(f"[{stage.name}] {steps} steps; {batches.report.summary()}")
  if part.title:
    share = _count(state.params), _count(params)
    print(
      f"[{stage.name}] trains {part.title}: {share[0]:,} numbers beside"
      f" {share[1]:,}"
    )
  packing = _packing(stage, loss.batch, run.mesh)
  if packing is not None:
    report = run.prepared.stages[stage.name].packing_report(
      loss.batch, stage.batch_size, packing
    )
    print(f"[{stage.name}] {report.summary()}")
  table = None
  if stage.reference == "precompute" and objective.needs_reference:
    table = _reference_table(run, stage, loss, model, params)
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
  evaluate = Evaluation(lambda p: measure(policy(p)), stage, folder, best)
  writers = [
    metrics.JsonlWriter(folder / "metrics.jsonl"),
    metrics.TensorBoardWriter(folder / "tensorboard"),
    *run.extra_writers(stage.name),
  ]
  writer = metrics.write_all(writers)
  writer.truncate_after(reached)
  save = lambda state, position: checkpoints.save(
    state, data=position, meta=meta
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
    state = loop.run(
      state,
      steps=steps,
      batches=batches,
      prepare=_prepare(run, stage, model, policy, ref_params, table),
      update=functools.partial(update, frozen=frozen),
      ref_params=ref_params,
      write=writer.write,
      log_every=stage.log_every,
      probes=[loop.Probe(stage.eval_every or steps, evaluate)],
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


def _count(params) -> int:
  return sum(x.size for x in jax.tree.leaves(params))


def _batches(run: Run, stage: StageSettings, loss: BoundLoss):
  dataset = run.prepared.stages[stage.name]
  seed = stream(run.seed, "data", stage.name)
  if stage.algorithm:
    return dataset.prompt_loader(stage.batch_size, seed=seed)
  return dataset.loader(
    loss.batch,
    "train",
    stage.batch_size,
    seed=seed,
    packing=_packing(stage, loss.batch, run.mesh),
  )


def _prepare(run, stage, model, policy, ref_params, table):
  """`(state, batch) -> loop.Prepared` of an offline or an online stage."""
  if not stage.algorithm:

    def offline(state, batch):
      del state
      record = batch.data
      if table is not None:
        record = reference.attach(record, batch.sources, table)
      return loop.Prepared(place(record, run.mesh), batch.sources, {})

    return offline

  assert run.annotator is not None  # check_stage saw to it
  tokenizer = run.prepared.tokenizer
  sample = online.make_sampling(
    online.ALGORITHMS[stage.algorithm],
    model,
    run.annotator,
    tokenizer.decode,
    max_new_tokens=stage.max_new_tokens,
    stop_ids=(tokenizer.eos_id,),
    pad_id=tokenizer.pad_id,
    mix_ref=stage.mix_ref,
    draw=sampler(),
    slots=stage.slots or None,
  )
  root = jax.random.key(stream(run.seed, "online", stage.name))

  def prepare(state, batch):
    # A key of the step: a resumed run draws what the uninterrupted one drew.
    key = jax.random.fold_in(root, state.step)
    sampled = sample(policy(state.params), ref_params, batch.data, key)
    record = jax.device_put(sampled.batch, batch_sharding(run.mesh))
    return loop.Prepared(record, batch.sources, sampled.values)

  return prepare


def _reference_table(run, stage, loss, model, params):
  dataset = run.prepared.stages[stage.name]
  examples = dataset.examples(loss.batch, "train")
  mark = reference.fingerprint(params, examples)
  path = run.folder / stage.name / "reference_logps.npz"
  table = reference.load(path, mark)
  if table is None:
    batches = dataset.loader(
      loss.batch, "train", stage.batch_size, epochs=1, shuffle=False
    )
    table = reference.compute(
      model, params, batches, lambda record: place(record, run.mesh)
    )
    reference.store(path, table, mark)
  return table
