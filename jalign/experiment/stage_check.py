"""Checks a stage's settings before any stage has run."""

import fnmatch
import pathlib

import jax
from flax import traverse_util

from jalign.errors import UserError, nearest
from jalign.experiment.config.settings import (
  DataSettings,
  Settings,
  StageSettings,
)
from jalign.experiment.context import Run
from jalign.experiment.disk.start import is_checkpoint
from jalign.experiment.heads import reads_head
from jalign.experiment.loss import bind
from jalign.experiment.params import trainable_of
from jalign.experiment.probe import probe_data
from jalign.experiment.regimes import regime_of
from jalign.experiment.reward_start import check_head
from jalign.experiment.scorer import is_scorer
from jalign.models import hf
from jalign.training import offload
from jalign.training.optimizer import make_schedule


def check_config(settings: Settings) -> None:
  """Checks what a config decides alone, before data are read.

  Raises:
    UserError: something is wrong; the error names the key.
  """
  sections = {settings.data: "config.data"}
  for stage in settings.stages:
    sections.setdefault(stage.data, f"config.{stage.name}.data")
  for section, where in sections.items():
    _check_lengths(section, where)
  for stage in settings.stages:
    bind(stage)
    _check_start(settings, stage)
    if stage.steps:
      _check_schedule(stage, stage.steps * regime_of(stage).updates_of(stage))


def _check_lengths(section: DataSettings, where: str) -> None:
  most, longest = section.max_prompt_tokens, max(section.buckets)
  if section.source == "prompts" or not most or most < longest:
    return
  raise UserError(
    f"prompts of up to {most} tokens leave no room for a response: the longest"
    f" of {where}.buckets has {longest} tokens.",
    where=f"{where}.max_prompt_tokens",
    remedy=f"Lower it, for example --{where}.max_prompt_tokens={longest // 2},"
    f" or add a longer bucket to --{where}.buckets.",
  )


def _check_start(settings: Settings, stage: StageSettings) -> None:
  """Raises UserError if a policy would start from a reward model."""
  name = settings.starts[stage.name]
  if name == "start" or reads_head(stage):
    return
  if reads_head(settings.stage(name)):
    policies = ["start"]
    for other in settings.stages[: settings.stages.index(stage)]:
      policies += [] if reads_head(other) else [other.name]
    raise UserError(
      f"{stage.name} trains a policy, and {name}, which it would start from,"
      " trains a score head.",
      where=f"config.{stage.name}.start",
      remedy=f"Name a policy: --config.{stage.name}.start={policies[-1]}",
    )


def check_base(settings: Settings, base: pathlib.Path | None) -> None:
  """Checks that what starts from a reward model can go on with its head.

  Args:
    settings: the run's settings.
    base: folder of the run or checkpoint to start from, or None.

  Raises:
    UserError: a stage trains a policy or, from a checkpoint, another head; the
      error names it.
  """
  if base is None or not is_scorer(base):
    return
  for stage in settings.stages:
    if settings.starts[stage.name] != "start":
      continue
    if not reads_head(stage):
      raise UserError(
        f"{stage.name} trains a policy, and {base} is a reward model.",
        where="config.init_from",
        remedy="Name a policy there. A reward model can be a judge:"
        f" --config.annotator.kind=model --config.annotator.function={base}",
      )
    if is_checkpoint(base):
      check_head(base, hf.read_config(base), stage)


def _check_scored(stage: StageSettings) -> None:
  """Raises UserError for what a stage that trains a head can't do."""
  asked = {
    "normalise_pairs": stage.normalise_pairs,
    "diagnostics": stage.diagnostics.probes or stage.diagnostics.samples,
    "algorithm": stage.algorithm,
  }
  for key, value in asked.items():
    if value:
      raise UserError(
        "is of policies, and the stage trains a score head.",
        where=f"config.{stage.name}.{key}",
        remedy="Leave it out.",
      )


def check_stage(run: Run, stage: StageSettings) -> None:
  """Checks a stage's settings before any stage has run.

  Raises:
    UserError: something is wrong; the error names the key.
  """
  at = f"config.{stage.name}"
  loss, dataset = bind(stage), run.prepared.stages[stage.name]
  trainable_of(run.model_config, stage)
  if loss.batch.head:
    _check_scored(stage)
  regime = regime_of(stage)
  steps = regime.total_steps(stage, dataset, loss.batch)
  _check_schedule(stage, steps * regime.updates_of(stage))
  _check_divisible(stage, run.mesh)
  check_offload(stage, run.mesh)
  _check_normalise(stage, loss.batch)
  _check_diagnostics(run, stage, loss.batch)
  if loss.coupled and stage.microbatches > 1:
    raise UserError(
      f"{loss.title} couples the examples of a batch: it can't be accumulated.",
      where=f"{at}.microbatches",
      remedy="Set it to 1.",
    )
  regime.check(run, stage, loss, dataset)


def check_offload(stage: StageSettings, mesh: jax.sharding.Mesh) -> None:
  """Raises UserError for what a stage can't keep in the host's memory."""
  where = f"config.{stage.name}.offload"
  for part in stage.offload:
    if part not in offload.PARTS:
      raise UserError(
        f"{part!r} is not one of {', '.join(offload.PARTS)}.",
        where=where,
        remedy=nearest(part, offload.PARTS),
      )
  if offload.START in stage.offload:
    reads = {
      "algorithm": stage.algorithm,
      "lora.rank": stage.lora.rank,
      "trainable": stage.trainable,
      "diagnostics": stage.diagnostics.probes or stage.diagnostics.samples,
    }
    readers = [key for key, value in reads.items() if value]
    if readers:
      raise UserError(
        "what the stage starts from is read again and again where the stage has"
        f" {' or '.join(readers)}: it has to stay on the devices.",
        where=where,
        remedy="Leave 'start' out; 'optimizer' can be kept.",
      )
  if stage.offload:
    offload.check(mesh, where)


def _check_schedule(stage, updates):
  try:
    make_schedule(stage.optimizer, updates)
  except UserError as e:
    at = f"config.{stage.name}.{e.where}"
    raise UserError(e.problem, where=at, remedy=e.remedy) from None


def _check_diagnostics(run, stage, batch):
  asked = stage.diagnostics
  where = f"config.{stage.name}.diagnostics"
  if asked.probes:
    probe_data(run.prepared, stage)
  if asked.policy and asked.top_k > run.model_config.vocab_size:
    raise UserError(
      f"the model has only {run.model_config.vocab_size} tokens.",
      where=f"{where}.top_k",
    )
  if asked.entanglement in ("step", "both"):
    remedy = "Use 'probe', which looks at held-out pairs."
    if not batch.paired:
      raise UserError(
        f"'step' looks at pairs, and the loss takes {batch.name}.",
        where=f"{where}.entanglement",
        remedy=remedy,
      )
    if stage.packing or stage.share_prefix:
      raise UserError(
        "'step' can't look into packed rows.",
        where=f"{where}.entanglement",
        remedy=remedy,
      )
    if stage.normalise_pairs:
      raise UserError(
        "'step' can't look at gradients that are normalised.",
        where=f"{where}.entanglement",
        remedy=remedy,
      )
  paths = traverse_util.flatten_dict(
    trainable_of(run.model_config, stage).specs, sep="/"
  )
  for pattern in asked.groups:
    if not fnmatch.filter(paths, pattern):
      raise UserError(
        f"{pattern!r} matches no parameter that is trained.",
        where=f"{where}.groups",
        remedy=f"The trained parameters are: {', '.join(paths)}.",
      )


def _check_normalise(stage, batch):
  if not stage.normalise_pairs:
    return
  others = {
    f"a loss on {batch.name}": not batch.paired,
    "packed rows": bool(stage.packing or stage.share_prefix),
    "a part of the parameters": bool(stage.lora.rank or stage.trainable),
  }
  for what, asked in others.items():
    if asked:
      raise UserError(
        f"normalised gradients of pairs don't go with {what}.",
        where=f"config.{stage.name}.normalise_pairs",
        remedy="Set it to False.",
      )


def _check_divisible(stage, mesh):
  ways = mesh.shape["data"] * mesh.shape["fsdp"]
  size = stage.batch_size // stage.microbatches
  if stage.batch_size % stage.microbatches or size % ways:
    raise UserError(
      f"{stage.batch_size} examples in {stage.microbatches} microbatches don't"
      f" divide over the {ways} devices of the mesh's data and fsdp axes.",
      where=f"config.{stage.name}.batch_size",
      remedy=f"Choose a multiple of {ways * stage.microbatches}.",
    )
