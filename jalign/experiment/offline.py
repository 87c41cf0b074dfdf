"""Stages on given data: their batches, and reference log-probs of those."""

import jax

from jalign import data, losses
from jalign.errors import UserError
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.context import Materials, Run
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.heads import check_head, head_of
from jalign.experiment.held_out import (
  Measure,
  check_select,
  loss_metrics,
  measure_loss,
)
from jalign.experiment.loss import BoundLoss
from jalign.experiment.params import trainable_of
from jalign.experiment.stepping import Stepping
from jalign.hosts import exchange, say
from jalign.models import transformer
from jalign.sharding import BATCH_AXES, axis_size, place
from jalign.training import loop, reference
from jalign.training.kinds import Kind, referring
from jalign.training.objective import make_objective


def packing_of(
  stage: StageSettings, batch: Kind, mesh: jax.sharding.Mesh | None = None
) -> data.Packing | None:
  """How a stage's batches are packed; None if they aren't.

  Examples of one shard and one microbatch are packed together. Without a mesh,
  the number of shards counts as 1.
  """
  share = stage.share_prefix and batch.several
  if not stage.packing and not share:
    return None
  shards = 1 if mesh is None else axis_size(mesh, BATCH_AXES)
  return data.Packing(stage.packing, share, shards * stage.microbatches)


def total_steps(stage: StageSettings, dataset: Dataset, batch: Kind) -> int:
  """Steps of a stage: its `steps`, or its epochs times batches per epoch."""
  dataset.check(batch, f"config.{stage.name}.data")
  if stage.steps:
    return stage.steps
  per_epoch = data.batches_per_epoch(
    dataset.lengths(batch, "train"),
    stage.batch_size,
    dataset.buckets_of(packing_of(stage, batch)),
  )
  return per_epoch * stage.epochs


def advise_buckets(run: Run, stage: StageSettings, batch: Kind) -> None:
  """Says which bucket holds every sequence, if there is a shorter one."""
  dataset = run.prepared.stages[stage.name]
  lengths = [
    length
    for part in ("train", "eval")
    for length in dataset.lengths(batch, part)
  ]
  longest = -(-max(lengths) // 8) * 8
  if stage.packing or longest >= min(dataset.buckets):
    return
  shared = dataset is run.prepared.main
  where = "config.data" if shared else f"config.{stage.name}.data"
  flags = [f"--{where}.buckets=({longest},)"]
  most = stage.data.max_prompt_tokens
  if most and most >= longest:
    flags.append(f"--{where}.max_prompt_tokens={longest - 1}")
  say(
    f"[{stage.name}] the longest sequence has {max(lengths)} tokens: less is"
    f" padding with {' '.join(flags)}"
  )


def batches_of(
  given: Materials, stage: StageSettings, loss: BoundLoss
) -> data.Loader:
  """Training batches of the kind that the loss takes."""
  return given.dataset.loader(
    loss.batch,
    "train",
    stage.batch_size,
    seed=given.seed_of("data"),
    packing=packing_of(stage, loss.batch, given.mesh),
  )


def prepare_of(given, stage, model, policy, critic, ref_params, table):
  """Makes `(state, batch) -> loop.Placed`, which puts a batch on the mesh."""
  del stage, model, policy, critic, ref_params

  def prepare(state, batch):
    del state
    record = batch.data
    if table is not None:
      record = reference.attach(record, batch.sources, table)
    return loop.Placed((place(record, given.mesh),), batch.sources, {})

  return prepare


def updates_of(stage: StageSettings) -> int:
  """The number of updates of a step: 1."""
  del stage
  return 1


def stepping_of(given, stage, trained, where, whole) -> Stepping:
  """A step is one update, with nothing around it."""
  del given, stage, trained, where, whole
  return Stepping()


def measure_of(run: Run, stage: StageSettings, assembly, params) -> Measure:
  """Makes a function that measures loss and metrics on held-out records."""
  return measure_loss(
    run.prepared.stages[stage.name],
    run.mesh,
    assembly.objective,
    assembly.loss.batch,
    stage.batch_size,
    params if assembly.objective.needs_reference else None,
  )


def check(
  run: Run, stage: StageSettings, loss: BoundLoss, dataset: Dataset
) -> None:
  """Checks a stage's settings against its data.

  Raises:
    UserError: something makes no sense; the error names the key.
  """
  at = f"config.{stage.name}"
  names = losses.array_parameters(loss.function)
  _check_records(dataset, loss, at)
  known = loss.batch.precomputed
  passed = [n for n in referring(loss.batch, names) if n not in known]
  if stage.reference == "precompute" and passed:
    raise UserError(
      f"{loss.title} takes {', '.join(passed)}: only sums over whole responses"
      " can be"
      " are scored in advance.",
      where=f"{at}.reference",
      remedy="Use reference='step'.",
    )
  check_head(stage, loss, dataset.rows(loss.batch, "train"))
  if stage.select:
    model = transformer(run.model_config)
    head = head_of(run.model_config, stage)
    objective = make_objective(
      loss.function, model, batch=loss.batch, head=head
    )
    part, key = trainable_of(run.model_config, stage), jax.random.key(0)
    start = jax.eval_shape(model.init, key)
    params = jax.eval_shape(
      lambda p: part.join(part.start(p, key), part.frozen(p)), start
    )
    check_select(
      stage,
      loss_metrics(dataset, params, objective, loss.batch, stage.batch_size),
    )


def _check_records(dataset: Dataset, loss: BoundLoss, at: str) -> None:
  """Raises UserError for a loss that the records can't be meant for."""
  names = losses.array_parameters(loss.function)
  rows = dataset.rows(loss.batch, "train")
  try:
    dataset.reading(loss.batch).check(loss.title, names, rows)
  except UserError as e:
    where = f"{at}.{e.where}"
    raise UserError(e.problem, where=where, remedy=e.remedy) from e


def reference_table(run: Run, stage: StageSettings, assembly, params):
  """The reference's log-probs, computed once and kept in the stage's folder.

  Args:
    run: what the stages share.
    stage: the stage's settings.
    assembly: the assembled stage.
    params: the reference's parameters.

  Returns:
    Source of an example -> its rows' log-probs.
  """
  dataset, batch = run.prepared.stages[stage.name], assembly.loss.batch
  mark = reference.fingerprint(params, dataset.examples(batch, "train"))
  path = run.folder / stage.name / "reference_logps.npz"
  table = reference.load(path, mark)
  if not all(exchange(table is not None)) or table is None:
    batches = dataset.loader(
      batch, "train", stage.batch_size, epochs=1, shuffle=False
    )
    table = reference.compute(
      assembly.model, params, batches, lambda record: place(record, run.mesh)
    )
    reference.store(path, table, mark)
  return table
