"""Trains one stage, inside its folder."""

import contextlib
import dataclasses
import pathlib
from typing import Any, NamedTuple

import jax

from jalign.experiment import offline, resume
from jalign.experiment.assemble import assemble
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.config.streams import stream
from jalign.experiment.context import Run
from jalign.experiment.held_out import Evaluation, measure_samples
from jalign.experiment.params import laid_out
from jalign.experiment.probe import make_probes, probe_data
from jalign.experiment.regimes import regime_of
from jalign.hosts import host0, say, together
from jalign.training import loop, metrics, reference
from jalign.training.checkpoint import Checkpoints
from jalign.training.critic import policy_of
from jalign.training.timed import SaveClock


class StageResult(NamedTuple):
  """The outcome of a stage.

  Attributes:
    params: parameters that the next stage starts from.
    step: step of these parameters.
    evaluation: held-out metrics of that step, the last or the best one.
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
    stage: the stage's settings.
    params: parameters to start from; also the reference of a loss that has one.
  """
  folder = run.folder / stage.name
  assembly = assemble(run.materials(stage), stage, params)
  steps, part, policy = assembly.steps, assembly.part, assembly.policy
  meta = resume.meta_of(
    stage, reference.fingerprint(params, ()), run.seed, run.needs[stage.name]
  )
  run.sharing.take(stage, meta, steps)
  checkpoints = Checkpoints(
    folder / "checkpoints", keep=stage.keep_newest, keep_every=stage.keep_every
  )
  best = Checkpoints(folder / "best") if stage.select else None
  state, batches = assembly.init(), assembly.batches()
  reached = -1
  if checkpoints.latest() is not None:
    restored = checkpoints.restore(state)
    resume.check_state(restored.meta, meta, folder)
    reached = int(restored.state.step)
    # Together, as the first process is about to cut the file.
    check = resume.check_metrics
    together(
      lambda: check(restored.meta, reached, folder, stage.select, run.anyway)
    )
    state = restored.state
    batches.set_state(restored.data)
    say(f"[{stage.name}] resumes at step {int(state.step)} of {steps}")
  checkpoints.discard_after(reached)  # such as damaged ones
  if best is not None:
    best.discard_after(reached)
    resume.check_best(best, meta, folder)
  say(f"[{stage.name}] {steps} steps; {batches.report.summary()}")
  if not stage.samples and batches.report.padding > 0.6:
    offline.advise_buckets(run, stage, assembly.loss.batch)
  if part.title:
    share = _count(state.params), _count(params)
    say(
      f"[{stage.name}] trains {part.title}: {share[0]:,} numbers beside"
      f" {share[1]:,}"
    )
  batch = assembly.loss.batch
  packing = offline.packing_of(stage, batch, run.mesh)
  if packing is not None:
    report = run.prepared.stages[stage.name].packing_report(
      batch, stage.batch_size, packing
    )
    say(f"[{stage.name}] {report.summary()}")
  table, ref_params = None, assembly.reference
  if stage.reference == "precompute" and assembly.objective.needs_reference:
    table = offline.reference_table(run, stage, assembly, params)
    ref_params = None

  measure = regime_of(stage).measure_of(run, stage, assembly, params)
  evaluate = Evaluation(
    lambda p: measure(policy(p)),
    stage,
    regime_of(stage).measured,
    folder,
    best,
    meta,
  )
  probes = make_probes(
    probe_data(run.prepared, stage) if stage.diagnostics.probes else None,
    _samples(run, stage, assembly.model, params),
    policy,
    stage,
    steps,
    mesh=run.mesh,
    model=assembly.model,
    objective=assembly.objective,
    loss=assembly.loss,
    part=part._replace(
      join=lambda trained, frozen: policy_of(part.join(trained, frozen))
    ),
    frozen=assembly.frozen,
    reference=params,
    folder=folder,
  )
  writer = metrics.write_all(_writers(run, stage, folder))
  writer.truncate_after(reached)
  clock = SaveClock(stage.save_minutes)

  def save(state, position) -> None:
    clock.restart()
    there = resume.with_metrics(meta, folder) if host0() else meta
    checkpoints.save(state, data=position, meta=there)

  def should_stop() -> bool:
    checkpoints.check()  # the next step raises the error of a failed save
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
      prepare=assembly.prepare(ref_params, table),
      update=assembly.update,
      finish=assembly.finish,
      ref_params=ref_params,
      write=writer.write,
      log_every=stage.log_every,
      probes=[loop.Probe(stage.eval_every or steps, evaluate), *probes],
      save=save,
      save_every=stage.save_every,
      save_due=clock.due,
      should_stop=should_stop,
      learning_rate=assembly.learning_rate,
      description=stage.name,
    )
    step, chosen = int(state.step), state.params
    best_step = best.latest() if best is not None else None
    if best is not None and best_step is not None:
      step, chosen = best_step, best.restore_params(state.params)
    evaluation = evaluate.last(step)
  if part.title:
    chosen = policy(chosen)
    where = laid_out(run.model_config, run.mesh, chosen)
    chosen = jax.jit(part.whole, out_shardings=where)(chosen)
  return StageResult(policy_of(chosen), step, evaluation, assembly.loss.title)


def _writers(run: Run, stage: StageSettings, folder: pathlib.Path):
  """The writers of metrics; none in any process but the first."""
  if not host0():
    return []
  return [
    metrics.JsonlWriter(folder / "metrics.jsonl"),
    metrics.TensorBoardWriter(folder / "tensorboard"),
    *run.extra_writers(stage.name),
  ]


def _samples(run: Run, stage: StageSettings, model, params):
  """The function that measures held-out samples, one a prompt; or None."""
  count = stage.diagnostics.samples
  if not count:
    return None
  seed = stream(run.seed, "diagnostics", stage.name)
  return measure_samples(
    run.prepared,
    model,
    run.annotator,
    run.measures,
    dataclasses.replace(run.sample, per_prompt=1),
    params,
    count,
    seed,
    run.gold,
  )


def _count(params) -> int:
  return sum(x.size for x in jax.tree.leaves(params))
