"""Stages on what the policy samples: prompts, draws and their judge."""

import jax

from jalign import data
from jalign.decode import sampler
from jalign.errors import UserError
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.config.streams import stream
from jalign.experiment.context import Materials, Run
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.held_out import Measure, measure_wins
from jalign.experiment.loss import BoundLoss
from jalign.online import ALGORITHMS, make_round
from jalign.sharding import batch_sharding
from jalign.training import loop
from jalign.training.kinds import Kind


def total_steps(stage: StageSettings, dataset: Dataset, batch: Kind) -> int:
  """Steps of a stage, each of one batch of prompts."""
  del dataset, batch
  if stage.steps:
    return stage.steps
  raise UserError(
    "online training has no epochs.",
    where=f"config.{stage.name}.steps",
    remedy="Set the number of steps.",
  )


def batches_of(
  given: Materials, stage: StageSettings, loss: BoundLoss
) -> data.Loader:
  """Batches of training prompts."""
  del loss
  return given.dataset.prompt_loader(
    stage.batch_size, seed=given.seed_of("data")
  )


def prepare_of(given, stage, model, policy, ref_params, table):
  """`(state, batch) -> loop.Placed`: draws responses and has them judged."""
  del table
  assert given.annotator is not None  # check_stage saw to it
  play = make_round(
    ALGORITHMS[stage.algorithm],
    model,
    given.annotator,
    given.tokenizer.decode,
    max_new_tokens=stage.max_new_tokens,
    stop_ids=given.tokenizer.end_ids,
    pad_id=given.tokenizer.pad_id,
    mix_ref=stage.mix_ref,
    draw=sampler(),
    slots=stage.slots or None,
  )
  root = jax.random.key(given.seed_of("online"))

  def prepare(state, batch):
    # A key of the step: a resumed run draws what the uninterrupted one drew.
    key = jax.random.fold_in(root, state.step)
    played = play(policy(state.params), ref_params, batch.data, key)
    records = jax.device_put(played.batches, batch_sharding(given.mesh))
    return loop.Placed(records, batch.sources, played.values)

  return prepare


def measure_of(run: Run, stage: StageSettings, assembly, params) -> Measure:
  """Win rate over the start on held-out prompts."""
  assert run.annotator is not None  # check_stage saw to it
  return measure_wins(
    run.prepared,
    assembly.model,
    run.annotator,
    run.sample,
    params,
    stream(run.seed, "held out", stage.name),
  )
