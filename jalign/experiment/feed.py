"""What the loop of a stage is fed: batches, samples, reference log-probs."""

import jax

from jalign import data
from jalign.decode import sampler
from jalign.errors import UserError
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.config.streams import stream
from jalign.experiment.context import Run
from jalign.experiment.data.prepare import Prepared, place
from jalign.experiment.loss import BoundLoss, bind
from jalign.sharding import BATCH_AXES, axis_size, batch_sharding
from jalign.training import loop, online, reference


def packing_of(
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
    dataset.buckets_of(packing_of(stage, batch)),
  )
  return per_epoch * stage.epochs


def batches_of(run: Run, stage: StageSettings, loss: BoundLoss):
  dataset = run.prepared.stages[stage.name]
  seed = stream(run.seed, "data", stage.name)
  if stage.algorithm:
    return dataset.prompt_loader(stage.batch_size, seed=seed)
  return dataset.loader(
    loss.batch,
    "train",
    stage.batch_size,
    seed=seed,
    packing=packing_of(stage, loss.batch, run.mesh),
  )


def prepare_of(run, stage, model, policy, ref_params, table):
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
    stop_ids=tokenizer.end_ids,
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


def reference_table(run, stage, loss, model, params):
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
