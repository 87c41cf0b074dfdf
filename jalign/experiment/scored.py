"""What a run keeps of a stage that trained a score head."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jalign.evaluation import negative_log_likelihood
from jalign.evaluation.reward_accuracy import summary
from jalign.evaluation.reward_accuracy import told as as_told
from jalign.experiment import reward_pairs
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.context import Run
from jalign.experiment.disk import folder as folders
from jalign.experiment.heads import form_of, head_of, sign_of
from jalign.experiment.loss import bind
from jalign.experiment.reward_pairs import Kept
from jalign.experiment.scorer import CONSTANT
from jalign.experiment.stage import StageResult
from jalign.experiment.tables import percent
from jalign.glossary import in_section
from jalign.hosts import say
from jalign.losses import array_parameters
from jalign.models import transformer
from jalign.sharding import fetch, place
from jalign.training import packed
from jalign.training.kinds import SCORES
from jalign.training.kinds.score_checks import names_of
from jalign.training.trainable import HEAD, MODEL
from jalign.types import Params

# Arrays of scores whose signs are labels.
_SIGNED = {"harmful_costs", "harmless_costs", "response_scores"}
_BATCHES = 32  # of training examples, whose best responses are scored


def keep(run: Run, stage: StageSettings, result: StageResult) -> Kept:
  """Writes the results of a stage that trained a score head.

  They go to `results.json` in the stage's folder, and what the head says of
  each held-out pair to `rewards.json`.

  Args:
    run: what the stages share.
    stage: the stage's settings.
    result: the stage's result.
  """
  folder = run.folder / stage.name
  told = told_of(run, stage, result)
  kept = held_out_pairs(run, stage, result.params, told.get(CONSTANT, 0.0))
  pairs, by_name = kept
  if pairs is not None:
    told |= in_section("eval", summary(pairs))
    reward_pairs.write(folder / reward_pairs.FILE, pairs)
    nll = negative_log_likelihood(pairs).mean
    say(
      f"[{stage.name}] held out: accuracy"
      f" {percent(told['eval/score_accuracy'])}, NLL {nll:.3f} nats,"
      f" {len(pairs):,} pairs"
    )
  if by_name is not None:
    for name, share in zip(by_name.names, by_name.accuracy):
      told[f"eval/score_accuracy/{name}"] = as_told(share)
      said = percent(told[f"eval/score_accuracy/{name}"])
      say(f"[{stage.name}] held out, {name}: accuracy {said}")
  folders.write_json(folder / "results.json", told)
  return kept


def held_out_pairs(
  run: Run, stage: StageSettings, params: Params, constant: float
) -> Kept:
  """What a stage's head says of the stage's held-out pairs.

  Args:
    run: what the stages share.
    stage: the stage's settings.
    params: {"model": ..., "head": ...}.
    constant: number that is subtracted from every score.
  """
  head = head_of(run.model_config, stage)
  dataset, loss = run.prepared.stages[stage.name], bind(stage)
  if loss.batch is not SCORES:
    return Kept(None, None)
  model, pairs = transformer(run.model_config), None
  given = params, dataset, stage.batch_size, run.mesh
  if reward_pairs.serves(dataset, head):
    score = reward_pairs.make_scored_pairs(
      model,
      head,
      form=form_of(loss),
      constant=constant,
      sign=sign_of(loss),
    )
    pairs = score(*given)
  return Kept(pairs, reward_pairs.objectives_of(model, head, *given))


def told_of(run: Run, stage: StageSettings, result: StageResult) -> Any:
  """What a judge reads of the results of a stage that trained a score head.

  Args:
    run: what the stages share.
    stage: the stage's settings.
    result: the stage's result.
  """
  told: dict[str, Any] = {
    "name": stage.name,
    "loss": result.loss,
    "step": result.step,
    "evaluation": result.evaluation,
  }
  head = head_of(run.model_config, stage)
  if getattr(head, "scores", None) is not None:
    rows = run.prepared.stages[stage.name].rows(bind(stage).batch, "train")
    told["objectives"] = list(names_of(rows))
  constant = mean_score(run, stage, result.params)
  if constant is not None:
    told[CONSTANT] = constant
    say(
      f"[{stage.name}] mean score of the best responses of training examples:"
      f" {constant:.4f}, which judges subtract"
    )
  return told


def mean_score(run: Run, stage: StageSettings, params: Params) -> float | None:
  """The mean score of the best responses of the first training examples.

  Subtracted from every score, it makes these responses score 0 on average, as
  Stiennon et al. 2020, arXiv:2009.01325, do with the reference summaries.

  Args:
    run: what the stages share.
    stage: the stage's settings.
    params: {"model": ..., "head": ...}.

  Returns:
    None for a head that doesn't give a response one number, and for losses to
    which the number 0 means something: the border of safe or of good responses.
  """
  head = head_of(run.model_config, stage)
  names = array_parameters(bind(stage).function)
  if getattr(head, "score", None) is None or _SIGNED & {*names}:
    return None
  model = transformer(run.model_config)

  @jax.jit
  def sums(params, batch):
    states = packed.last_states(model, params[MODEL], batch.sequences)
    scores = head.score(params[HEAD], states).reshape(batch.ranks.shape)
    best = (batch.ranks == 1) & batch.valid & (batch.weights > 0)[:, None]
    return jnp.sum(jnp.where(best, scores, 0.0)), jnp.sum(best)

  batches = run.prepared.stages[stage.name].loader(
    bind(stage).batch, "train", stage.batch_size, epochs=1, shuffle=False
  )
  found = [
    fetch(sums(params, place(batch.data, run.mesh)))
    for batch in itertools.islice(batches, _BATCHES)
  ]
  batches.close()
  totals, counts = np.sum(np.array(found, np.float64), axis=0)
  return float(totals / max(counts, 1))
