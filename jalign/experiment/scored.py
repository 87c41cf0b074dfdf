"""What a run keeps of a stage that trained a score head."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jalign.experiment.config.settings import StageSettings
from jalign.experiment.context import Run
from jalign.experiment.heads import head_of
from jalign.experiment.loss import bind
from jalign.experiment.scorer import CONSTANT
from jalign.experiment.stage import StageResult
from jalign.hosts import say
from jalign.models import transformer
from jalign.sharding import fetch, place
from jalign.training import packed
from jalign.training.trainable import HEAD, MODEL
from jalign.types import Params

_BATCHES = 32  # of training examples, whose best responses are scored


def told_of(run: Run, stage: StageSettings, result: StageResult) -> Any:
  """The results of a stage that trained a score head: names and values.

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
    None for a head that doesn't give a response one number.
  """
  head = head_of(run.model_config, stage)
  if getattr(head, "score", None) is None:
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
