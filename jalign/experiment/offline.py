"""Stages on data that is there: batches, and reference log-probs of them."""

import jax

from jalign import data
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.context import Materials, Run
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.data.prepare import place
from jalign.experiment.held_out import Measure, measure_loss
from jalign.experiment.loss import BoundLoss
from jalign.sharding import BATCH_AXES, axis_size
from jalign.training import loop, reference
from jalign.training.kinds import Kind


def packing_of(
  stage: StageSettings, batch: Kind, mesh: jax.sharding.Mesh | None = None
) -> data.Packing | None:
  """How a stage's batches are packed, None where they aren't.

  Examples of one shard and one microbatch are packed together; without a mesh
  the groups are left open.
  """
  share = stage.share_prefix and batch.several
  if not stage.packing and not share:
    return None
  shards = 1 if mesh is None else axis_size(mesh, BATCH_AXES)
  return data.Packing(stage.packing, share, shards * stage.microbatches)


def total_steps(stage: StageSettings, dataset: Dataset, batch: Kind) -> int:
  """Updates of a stage: its steps, or its epochs times batches an epoch."""
  if stage.steps:
    return stage.steps
  dataset.check(batch, f"config.{stage.name}.data")
  per_epoch = data.batches_per_epoch(
    dataset.lengths(batch, "train"),
    stage.batch_size,
    dataset.buckets_of(packing_of(stage, batch)),
  )
  return per_epoch * stage.epochs


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


def prepare_of(given, stage, model, policy, ref_params, table):
  """`(state, batch) -> loop.Placed`: puts a batch where it is computed."""
  del stage, model, policy, ref_params

  def prepare(state, batch):
    del state
    record = batch.data
    if table is not None:
      record = reference.attach(record, batch.sources, table)
    return loop.Placed((place(record, given.mesh),), batch.sources, {})

  return prepare


def measure_of(run: Run, stage: StageSettings, assembly, params) -> Measure:
  """Loss and metrics on the held-out records."""
  return measure_loss(
    run.prepared.stages[stage.name],
    run.mesh,
    assembly.objective,
    assembly.loss.batch,
    stage.batch_size,
    params if assembly.objective.needs_reference else None,
  )


def reference_table(run: Run, stage: StageSettings, assembly, params):
  """Log-probs of the reference, computed once and kept in the stage's folder.

  Args:
    run: what the stages share.
    stage: settings.
    assembly: the stage, put together.
    params: the reference's.
  """
  dataset, batch = run.prepared.stages[stage.name], assembly.loss.batch
  mark = reference.fingerprint(params, dataset.examples(batch, "train"))
  path = run.folder / stage.name / "reference_logps.npz"
  table = reference.load(path, mark)
  if table is None:
    batches = dataset.loader(
      batch, "train", stage.batch_size, epochs=1, shuffle=False
    )
    table = reference.compute(
      assembly.model, params, batches, lambda record: place(record, run.mesh)
    )
    reference.store(path, table, mark)
  return table
