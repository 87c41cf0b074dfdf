"""Stages on the policy's own samples: prompts, draws and their judge."""

import dataclasses

import jax

from jalign import data
from jalign.errors import UserError, said
from jalign.experiment.config.algorithms import algorithm_of
from jalign.experiment.config.ranges import drawing_of
from jalign.experiment.config.sections import DrawingSettings
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.config.streams import stream
from jalign.experiment.context import Materials, Run
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.held_out import (
  Measure,
  check_select,
  measure_samples,
  sample_metrics,
)
from jalign.experiment.loss import BoundLoss
from jalign.experiment.params import trainable_of
from jalign.experiment.reward_start import check_critic
from jalign.experiment.stepping import Stepping
from jalign.hosts import say
from jalign.losses import array_parameters
from jalign.models import transformer
from jalign.online import (
  beside_carry,
  carry_shardings,
  check_judge,
  hyperparameters,
  init_carry,
  make_finish,
  make_round,
  try_out,
)
from jalign.online.draws import of_policy
from jalign.online.parts import slices
from jalign.online.unfinished import Unfinished, check_unfinished
from jalign.sharding import BATCH_AXES, axis_size, place
from jalign.training import loop
from jalign.training.critic import CriticConfig
from jalign.training.kinds import Kind
from jalign.training.objective import make_objective


def total_steps(stage: StageSettings, dataset: Dataset, batch: Kind) -> int:
  """Steps of a stage; each step takes one batch of prompts."""
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


def updates_of(stage: StageSettings) -> int:
  """The number of updates of a step."""
  return algorithm_of(stage).updates.total


def stepping_of(given, stage, trained, where, whole) -> Stepping:
  """A step is a round with all its updates, and then the algorithm's carry."""
  algorithm = algorithm_of(stage)
  reference, carry = algorithm.reference, algorithm.carry
  laid = carry_shardings(carry, trained, where, given.mesh)
  keeps = bool(jax.tree.leaves(laid))
  return Stepping(
    init=lambda params: init_carry(carry, params, laid),
    shardings=laid,
    around=lambda update: beside_carry(
      update, lambda held, start: whole(reference(held, start))
    ),
    finish=make_finish(carry, laid, algorithm.restart, where)
    if keeps or algorithm.updates.total > 1
    else None,
  )


def prepare_of(given, stage, model, whole, critic, ref_params, table):
  """Makes `(state, batch) -> loop.Placed`, which draws and judges responses."""
  del table
  assert given.annotator is not None  # check_stage saw to it
  play = make_round(
    algorithm_of(stage),
    model,
    given.annotator,
    given.tokenizer.decode,
    max_new_tokens=stage.max_new_tokens,
    stop_ids=given.tokenizer.end_ids,
    pad_id=given.tokenizer.pad_id,
    mix_ref=stage.mix_ref,
    draw=drawing_of(stage.drawing),
    unfinished=_unfinished(stage),
    slots=stage.slots or None,
    whole=whole,
    critic=critic,
    judge_parts=stage.judge_parts,
  )
  root = jax.random.key(given.seed_of("online"))

  def prepare(state, batch):
    # The key depends on the step: a resumed run draws what it would have drawn.
    key = jax.random.fold_in(root, state.step)
    rows = given.dataset.judge_rows(batch.sources, len(batch.data.texts))
    played = play(
      state.params,
      ref_params,
      batch.data,
      key,
      carry=state.carry,
      rows=rows,
    )
    records = place(played.batches, given.mesh)
    values = played.values | played.seconds
    return loop.Placed(records, batch.sources, values)

  return prepare


def _unfinished(stage: StageSettings) -> Unfinished:
  return Unfinished(**dataclasses.asdict(stage.unfinished))


def measure_of(run: Run, stage: StageSettings, assembly, params) -> Measure:
  """Makes a function that measures responses to held-out prompts."""
  assert run.annotator is not None  # check_stage saw to it
  return measure_samples(
    run.prepared,
    assembly.model,
    run.annotator,
    run.measures,
    run.sample,
    params,
    run.sample.eval_prompts or run.sample.prompts,
    stream(run.seed, "held out", stage.name),
    run.gold,
  )


def check(
  run: Run, stage: StageSettings, loss: BoundLoss, dataset: Dataset
) -> None:
  """Checks a stage's settings against its algorithm, judge and data.

  Raises:
    UserError: something makes no sense; the error names the key.
  """
  at, algorithm = f"config.{stage.name}", algorithm_of(stage)
  for key, off in (("packing", 0), ("share_prefix", False)):
    if getattr(stage, key):
      raise UserError(
        "samples of an online stage aren't packed.",
        where=f"{at}.{key}",
        remedy=f"Set it to {off}.",
      )
  if stage.diagnostics.samples:
    raise UserError(
      "every evaluation of an online stage measures held-out samples.",
      where=f"{at}.diagnostics.samples",
      remedy="Leave it out, and set config.sample.eval_prompts and eval_every.",
    )
  judged = "config.annotator.function"
  if run.annotator is None:
    raise UserError(
      f"{stage.algorithm} needs an annotator.",
      where=judged,
      remedy="Name a Python function, as FILE.py:NAME.",
    )
  check_judge(run.annotator, algorithm.needs, stage.algorithm, judged)
  check_unfinished(_unfinished(stage), run.annotator, f"{at}.unfinished")
  if stage.reference == "precompute":
    raise UserError(
      "samples of an online stage can't be scored in advance.",
      where=f"{at}.reference",
      remedy="Use reference='step'.",
    )
  if not dataset.train_prompts:
    raise UserError(
      f"{stage.algorithm} needs prompts, and the data has no separate ones.",
      where=f"{at}.data",
      remedy="Choose a source whose rows have a prompt.",
    )
  try:
    slices(stage.batch_size, stage.judge_parts)
  except UserError as e:
    raise UserError(
      e.problem, where=f"{at}.{e.where}", remedy=e.remedy
    ) from None
  parts = algorithm.updates.minibatches * stage.microbatches
  ways = parts * axis_size(run.mesh, BATCH_AXES)
  if stage.batch_size % ways:
    raise UserError(
      f"{stage.batch_size} prompts don't divide into"
      f" {algorithm.updates.minibatches} minibatches of {stage.microbatches}"
      f" microbatches over {axis_size(run.mesh, BATCH_AXES)} devices.",
      where=f"{at}.batch_size",
      remedy=f"Choose a multiple of {ways}.",
    )
  _check_critic(run, stage, algorithm)
  _tell_bias(stage)
  _tell_reuse(stage, algorithm, loss)
  _try_out(run, stage, algorithm, loss)
  check_select(stage, sample_metrics(run.annotator, run.sample, run.gold))


def _tell_bias(stage: StageSettings) -> None:
  """Says so where samples aren't drawn from the policy and aren't weighed."""
  weighed = stage.algorithm_settings.get("importance_cap", 0)
  if stage.drawing != DrawingSettings() and not weighed:
    able = "importance_cap" in hyperparameters(algorithm_of(stage))
    say(
      f"[{stage.name}] samples aren't drawn from the policy's own distribution"
      f" (config.{stage.name}.drawing), and the gradient is biased"
      + (
        ": algorithm_settings.importance_cap weighs the samples"
        if able
        else ", for which this algorithm has no weights"
      )
    )


def _tell_reuse(stage: StageSettings, algorithm, loss: BoundLoss) -> None:
  """Says so where later updates take an older policy's samples for its own."""
  recorded = any(n.startswith("old_") for n in array_parameters(loss.function))
  own = any(draw.params is of_policy for draw in algorithm.draws)
  if algorithm.updates.total > 1 and own and not recorded:
    say(
      f"[{stage.name}] {loss.title} takes no log-probs of the time of sampling:"
      f" of the {algorithm.updates.total} updates of a round, those after the"
      " first take responses of an older policy for the policy's own"
    )


def _check_critic(run, stage, algorithm) -> None:
  """Raises UserError for settings of a critic that can't be followed."""
  if algorithm.critic:
    check_critic(stage, run.model_config, run.prepared.tokenizer)
    if stage.critic.warmup_steps >= stage.steps:
      raise UserError(
        f"{stage.critic.warmup_steps} steps of the critic alone leave the"
        f" policy none of {stage.steps}.",
        where=f"config.{stage.name}.critic.warmup_steps",
        remedy="Lower it, or train for more steps.",
      )
  elif stage.critic != CriticConfig():
    raise UserError(
      f"{stage.algorithm} has no critic.",
      where=f"config.{stage.name}.critic",
      remedy="Leave the section out, or choose an algorithm with a critic, such"
      " as ppo.",
    )


def _try_out(run, stage, algorithm, loss) -> None:
  """Goes from made-up responses to the loss, by shapes alone."""
  model, key = transformer(run.model_config), jax.random.key(0)
  part = trainable_of(run.model_config, stage)
  params = jax.eval_shape(model.init, key)
  batch = try_out(
    algorithm,
    jax.eval_shape(part.start, params, key),
    prompts=stage.batch_size,
    columns=stage.data.max_prompt_tokens + stage.max_new_tokens + 2,
    start=params,
    where=f"config.{stage.name}.algorithm_settings",
  )
  objective = make_objective(
    loss.function,
    model,
    batch=loss.batch,
    denominator=loss.denominator,
    coupled=loss.coupled,
  )
  try:
    jax.eval_shape(
      lambda policy, batch: objective.sums(
        part.join(part.start(policy, key), part.frozen(policy)), batch, policy
      ),
      params,
      batch,
    )
  except Exception as e:  # whatever an unfitting batch makes the loss raise
    problem = str(e) if isinstance(e, UserError) else f"{said(e)}."
    raise UserError(
      f"{stage.algorithm} arranges a {type(batch).__name__}, of which"
      f" {loss.title}, a loss on {loss.batch.name}, can't be computed:"
      f" {problem}",
      where=f"config.{stage.name}.algorithm",
      remedy="Let the algorithm's arrange give what its loss takes.",
    ) from e
