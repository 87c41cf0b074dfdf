"""Held-out metrics while a stage trains, and the best of its states."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError, nearest
from jalign.evaluation.diversity import distinct_n
from jalign.evaluation.win_rate import win_rate
from jalign.experiment.answers import sampled_answers
from jalign.experiment.config.plugins import Measures
from jalign.experiment.config.settings import SamplerSettings, StageSettings
from jalign.experiment.config.streams import stream
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.data.prepare import Prepared, place
from jalign.experiment.sampling import SampledTexts, sample_texts
from jalign.feedback import (
  Assessed,
  Judge,
  assess,
  compare,
  reward_statistics,
)
from jalign.losses.kl import k1, k3
from jalign.training import metrics
from jalign.training.checkpoint import Checkpoints
from jalign.training.kinds import Kind
from jalign.training.objective import Objective, make_evaluation
from jalign.training.progress import follow
from jalign.training.state import TrainState
from jalign.types import Model, Params

Measure = Callable[[Params], dict[str, float]]

ONLINE_METRICS = (
  "eval/win_rate",
  "eval/kl",
  "eval/response_tokens",
  "eval/finished",
)


def online_metrics(judge: Judge) -> tuple[str, ...]:
  """Names of what `measure_wins` always measures."""
  names = [name for name in ("reward", "cost") if getattr(judge, name)]
  return (*ONLINE_METRICS, *(f"eval/{name}_mean" for name in names))


def check_select(stage: StageSettings, measured: Sequence[str]) -> None:
  """Refuses to choose a state by a metric that isn't among those measured."""
  if stage.select and stage.select not in measured:
    raise UserError(
      f"{stage.select!r} is not measured.",
      where=f"config.{stage.name}.select",
      remedy=nearest(stage.select, measured),
    )


def measure_loss(
  dataset: Dataset,
  mesh: jax.sharding.Mesh,
  objective: Objective,
  batch: Kind,
  batch_size: int,
  ref_params: Params | None,
) -> Measure:
  """Loss and metrics of an objective on the held-out records.

  Args:
    dataset: of the stage.
    mesh: where batches go.
    objective: of the stage's loss.
    batch: kind of batch that it takes.
    batch_size: examples.
    ref_params: the reference, where the objective needs one.
  """
  evaluate = make_evaluation(objective)

  def measure(params: Params) -> dict[str, float]:
    batches = dataset.loader(batch, "eval", batch_size, epochs=1, shuffle=False)
    sums = [
      jax.device_get(evaluate(params, place(b.data, mesh), ref_params))
      for b in follow(batches, "held-out loss", "batch")
    ]
    return {f"eval/{k}": v for k, v in metrics.combine(sums).items()}

  return measure


def loss_metrics(
  dataset: Dataset,
  model: Model,
  objective: Objective,
  batch: Kind,
  batch_size: int,
) -> list[str]:
  """Names of what `measure_loss` will measure, without computing anything."""
  params = jax.eval_shape(model.init, jax.random.key(0))
  example = next(
    dataset.loader(batch, "eval", batch_size, epochs=1, shuffle=False)
  )
  _, (_, sums) = jax.eval_shape(objective.sums, params, example.data, params)
  return sorted(f"eval/{name}" for name in sums)


def measure_wins(
  prepared: Prepared,
  model: Model,
  judge: Judge,
  settings: SamplerSettings,
  ref_params: Params,
  seed: int,
) -> Measure:
  """Win rate of sampled responses over the reference's, on held-out prompts.

  Args:
    prepared: the data.
    model: functions of both policies.
    judge: who compares.
    settings: how many prompts and how to draw.
    ref_params: the reference; it is sampled once.
    seed: of the policy's draws, the same at every step; the reference has a
      stream of its own.
  """
  prompts = prepared.main.sample_prompts(
    settings.eval_prompts or settings.prompts
  )
  draw = lambda params, seed: sample_texts(
    model,
    params,
    prepared.tokenizer,
    prompts,
    settings,
    seed=seed,
    ref_params=ref_params,
    keep_tokens=judge.reads_tokens,
    description="held-out samples",
  )
  reference: list[Assessed] = []

  def assessed(samples: SampledTexts) -> Assessed:
    return assess(judge, sampled_answers(samples, prepared.main))

  def measure(params: Params) -> dict[str, float]:
    if not reference:
      past = draw(ref_params, stream(seed, "reference"))
      reference.append(assessed(past))
    samples = draw(params, seed)
    judged = assessed(samples)
    preference = compare(judge, judged, reference[0])
    rewards = reward_statistics(judged, samples.prompt_ids)
    values = (
      win_rate(preference, samples.prompt_ids).win_rate,
      float(np.mean(samples.logps - samples.ref_logps))
      if settings.plain
      else float("nan"),
      float(np.mean(samples.tokens)),
      samples.finished,
    )
    return dict(zip(ONLINE_METRICS, values)) | {
      f"eval/{name}": value for name, value in rewards.items()
    }

  return measure


def measure_samples(
  prepared: Prepared,
  model: Model,
  judge: Judge | None,
  measures: Measures,
  settings: SamplerSettings,
  reference: Params,
  count: int,
  seed: int,
) -> Callable[[Params], dict[str, float]]:
  """`params -> values` of responses to `count` held-out prompts, one each.

  KL is that of whole responses to the start, estimated on the samples: k1
  without bias, k3 without bias and never negative.

  Args:
    prepared: the data.
    model: functions of both policies.
    judge: judges against the start's responses; None for no win rate.
    measures: what else is measured on samples.
    settings: how to draw.
    reference: what the stage starts from.
    count: prompts.
    seed: of the draws.
  """
  settings = dataclasses.replace(settings, per_prompt=1)
  prompts = prepared.main.sample_prompts(count)
  draw = lambda params, seed: sample_texts(
    model,
    params,
    prepared.tokenizer,
    prompts,
    settings,
    seed=seed,
    ref_params=reference,
    keep_tokens=judge is not None and judge.reads_tokens,
    description="samples of diagnostics",
  )
  others: list[Assessed] = []

  def measure(params: Params) -> dict[str, float]:
    samples = draw(params, seed)
    values = {
      "samples/tokens": float(np.mean(samples.tokens)),
      "samples/finished_share": samples.finished,
      "samples/distinct_2": distinct_n(samples.texts, 2),
    }
    if settings.plain:
      both = jnp.asarray(samples.logps), jnp.asarray(samples.ref_logps)
      values["samples/kl_k1_nats"] = float(jnp.mean(k1(*both)))
      values["samples/kl_k3_nats"] = float(jnp.mean(k3(*both)))
    if judge is not None:
      assessed = lambda x: assess(judge, sampled_answers(x, prepared.main))
      if not others:
        others.append(assessed(draw(reference, stream(seed, "reference"))))
      judged = assessed(samples)
      wins = compare(judge, judged, others[0])
      values["samples/win_rate"] = win_rate(wins, samples.prompt_ids).win_rate
      rewards = reward_statistics(judged, samples.prompt_ids)
      values |= {f"samples/{name}": value for name, value in rewards.items()}
    more = measures(samples.prompts, samples.texts)
    return values | {f"samples/{k}": float(np.mean(v)) for k, v in more.items()}

  return measure


class Evaluation:
  """A probe that measures, and keeps the state that is best by one metric.

  Args:
    measure: params to held-out metrics.
    stage: its settings: the metric and its mode.
    folder: of the stage, with the metrics so far.
    best: where the best state goes, None where the stage doesn't select.
    meta: kept beside the best state, as beside every other.
  """

  def __init__(
    self,
    measure: Measure,
    stage: StageSettings,
    folder: pathlib.Path,
    best: Checkpoints | None,
    meta: Mapping[str, Any],
  ):
    self._measure, self._stage, self._best = measure, stage, best
    self._meta = meta
    self._metrics = folder / "metrics.jsonl"
    self._past: list[tuple[int, dict[str, float]]] | None = None

  def __call__(self, step: int, state: TrainState) -> dict[str, float]:
    values = self._measure(state.params)
    before = self._measured()
    if self._best is not None:
      name = self._stage.select
      sign = 1.0 if self._stage.select_mode == "max" else -1.0
      past = [sign * row[name] for _, row in before]
      past = [value for value in past if np.isfinite(value)]
      if not past or sign * values[name] > max(past):
        self._best.save(
          state, data=None, meta={**self._meta, "evaluation": values}
        )
        self._best.wait()
    before.append((step, values))
    return values

  def _measured(self) -> list[tuple[int, dict[str, float]]]:
    """(step, held-out metrics) so far; those of before a restart are read."""
    if self._past is None:
      rows = metrics.read_jsonl(self._metrics) if self._metrics.exists() else []
      measured = [
        (row["step"], {k: v for k, v in row.items() if k.startswith("eval/")})
        for row in rows
      ]
      self._past = [(step, values) for step, values in measured if values]
    return self._past

  def last(self, step: int) -> dict[str, float]:
    """The metrics measured at a step, by name; {} where none were."""
    # In the order of the file, whether they were read from there or not.
    return dict(sorted(dict(self._measured()).get(step, {}).items()))
