"""Measures on held-out data while a stage trains; keeps the best state."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jalign import hosts
from jalign.errors import UserError, nearest
from jalign.evaluation.diversity import distinct_n
from jalign.evaluation.win_rate import win_rate
from jalign.experiment.answers import sampled_answers
from jalign.experiment.config.settings import SamplerSettings, StageSettings
from jalign.experiment.config.streams import stream
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.data.prepare import Prepared
from jalign.experiment.gold import Both, gold_means, gold_names
from jalign.experiment.plugins import Measures
from jalign.experiment.sampling import SampledTexts, sample_texts
from jalign.feedback import (
  Assessed,
  Judge,
  assess,
  compare,
  reward_statistics,
)
from jalign.glossary import in_section
from jalign.losses.kl import k1, k3
from jalign.sharding import fetch, place
from jalign.training import metrics
from jalign.training.checkpoint import Checkpoints
from jalign.training.kinds import Kind
from jalign.training.objective import Objective, make_evaluation
from jalign.training.progress import follow
from jalign.training.state import TrainState
from jalign.types import Model, Params

Measure = Callable[[Params], dict[str, float]]


def sample_metrics(
  judge: Judge, settings: SamplerSettings, gold: Judge | None = None
) -> tuple[str, ...]:
  """Names of the metrics that `measure_samples` always gives with a judge."""
  names = ["response_tokens", "finished_share", "distinct_2_share", "win_rate"]
  names += ["kl_k1_nats", "kl_k3_nats"] if settings.plain else []
  names += [
    f"{name}_mean" for name in ("reward", "cost") if getattr(judge, name)
  ]
  parts = judge.parts.names if judge.parts is not None else ()
  names += [f"part_{name}_mean" for name in parts]
  return tuple(f"samples/{name}" for name in (*names, *gold_names(gold)))


def check_select(stage: StageSettings, measured: Sequence[str]) -> None:
  """Raises UserError if a stage selects by a metric that isn't measured."""
  if stage.select and stage.select not in measured:
    # A name in another section, or without its unit, is of the same quantity.
    quantity = lambda name: name.rpartition("/")[2]
    wanted = quantity(stage.select)
    same = [name for name in measured if quantity(name).startswith(wanted)]
    raise UserError(
      f"{stage.select!r} is not measured.",
      where=f"config.{stage.name}.select",
      remedy=nearest(same[0] if same else stage.select, measured),
    )


def measure_loss(
  dataset: Dataset,
  mesh: jax.sharding.Mesh,
  objective: Objective,
  batch: Kind,
  batch_size: int,
  ref_params: Params | None,
) -> Measure:
  """Makes a function that measures an objective on the held-out records.

  Args:
    dataset: the stage's data.
    mesh: the mesh that batches are put on.
    objective: the objective of the stage's loss.
    batch: kind of batch that the loss takes.
    batch_size: examples per batch.
    ref_params: the reference's parameters, if the objective needs them.

  Returns:
    `params -> metrics`: the loss and what the objective observes.
  """
  evaluate = make_evaluation(objective)

  def measure(params: Params) -> dict[str, float]:
    batches = dataset.loader(batch, "eval", batch_size, epochs=1, shuffle=False)
    sums = [
      fetch(evaluate(params, place(b.data, mesh), ref_params))
      for b in follow(batches, "held-out loss", "batch")
    ]
    return in_section("eval", metrics.combine(sums))

  return measure


def loss_metrics(
  dataset: Dataset,
  params: Params,
  objective: Objective,
  batch: Kind,
  batch_size: int,
) -> list[str]:
  """Names of the metrics of `measure_loss`, without computing anything.

  `params` may be shapes.
  """
  example = next(
    dataset.loader(batch, "eval", batch_size, epochs=1, shuffle=False)
  )
  _, (_, sums) = jax.eval_shape(objective.sums, params, example.data, params)
  return sorted(f"eval/{name}" for name in sums)


def measure_samples(
  prepared: Prepared,
  model: Model,
  judge: Judge | None,
  measures: Measures,
  settings: SamplerSettings,
  reference: Params,
  count: int,
  seed: int,
  gold: Judge | None = None,
) -> Measure:
  """Makes `params -> values`, measured on responses to held-out prompts.

  The KL is that of whole responses to the start, estimated on the samples: k1
  without bias, k3 without bias and never negative. Both are left out if the
  settings draw from a distribution that isn't the policy's own.

  Args:
    prepared: the data, with its held-out prompts.
    model: functions of both policies.
    judge: compares the responses with the start's; None for no win rate.
    measures: further measurements of samples.
    settings: how responses are drawn, and how many to each prompt.
    reference: parameters that the stage starts from; they are sampled once.
    count: number of prompts.
    seed: seed of the policy's draws, the same at every step; the reference has
      a stream of its own.
    gold: a judge beside the first one, which only measures; None for none.
  """
  asked = [j for j in (judge, gold) if j is not None]
  prompts = prepared.main.sample_prompts(count)
  draw = lambda params, seed: sample_texts(
    model,
    params,
    prepared.tokenizer,
    prompts,
    settings,
    seed=seed,
    ref_params=reference,
    keep_tokens=any(j.reads_tokens for j in asked),
    description="held-out samples",
  )
  others: list[tuple[Assessed, Assessed | None]] = []  # of the start, by both

  def judged(samples: SampledTexts) -> dict[str, float]:
    if judge is None:
      return {}

    def assessed(x: SampledTexts) -> tuple[Assessed, Assessed | None]:
      answers = sampled_answers(x, prepared.main)
      return assess(judge, answers), gold and assess(gold, answers)

    if not others:
      others.append(assessed(draw(reference, stream(seed, "reference"))))
    (mine, by_gold), (start, start_by_gold) = assessed(samples), others[0]
    wins = compare(judge, mine, start)
    values = {
      "win_rate": win_rate(wins, samples.prompt_ids).win_rate,
      **reward_statistics(mine, samples.prompt_ids),
    }
    if not judge.answers_all:
      values["unanswered_share"] = float(np.mean(np.isnan(wins)))
    if gold is not None and by_gold is not None and start_by_gold is not None:
      sides = Both(mine, by_gold), Both(start, start_by_gold)
      means = gold_means(judge, gold, *sides, samples.prompt_ids)
      values |= {name: value.mean for name, value in means.items()}
    return values

  def measure(params: Params) -> dict[str, float]:
    samples = draw(params, seed)
    values = {
      "response_tokens": float(np.mean(samples.tokens)),
      "finished_share": samples.finished,
      "distinct_2_share": distinct_n(samples.texts, 2),
    }
    if settings.plain:
      both = jnp.asarray(samples.logps), jnp.asarray(samples.ref_logps)
      values["kl_k1_nats"] = float(jnp.mean(k1(*both)))
      values["kl_k3_nats"] = float(jnp.mean(k3(*both)))
    values |= judged(samples)
    more = measures(samples.prompts, samples.texts)
    return in_section("samples", values) | in_section(
      "measures", {name: float(np.mean(value)) for name, value in more.items()}
    )

  return measure


class Evaluation:
  """A probe that measures, and keeps the state that is best by one metric.

  Args:
    measure: `params -> held-out metrics`.
    stage: the stage's settings, with the metric and its mode.
    sections: sections of the metrics that are measured.
    folder: the stage's folder, which has the metrics so far.
    best: where the best state is saved; None if the stage doesn't select.
    meta: saved with the best state, as with every other checkpoint.
  """

  def __init__(
    self,
    measure: Measure,
    stage: StageSettings,
    sections: Sequence[str],
    folder: pathlib.Path,
    best: Checkpoints | None,
    meta: Mapping[str, Any],
  ):
    self._measure, self._stage, self._best = measure, stage, best
    self._meta, self._sections = meta, frozenset(sections)
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
    """(step, held-out metrics) so far, also from before a restart."""
    if self._past is None:
      # Only the first process reads the file, since it alone writes to it.
      there = lambda: hosts.host0() and self._metrics.exists()
      read = lambda: metrics.read_jsonl(self._metrics) if there() else []
      rows = hosts.together(read)[0]
      measured = [
        (row["step"], {k: v for k, v in row.items() if self._own(k)})
        for row in rows
      ]
      self._past = [(step, values) for step, values in measured if values]
    return self._past

  def _own(self, name: str) -> bool:
    return name.partition("/")[0] in self._sections

  def last(self, step: int) -> dict[str, float]:
    """The metrics measured at a step, by name; {} if none were."""
    # Sorted by name, whether they were read from the file or not.
    return dict(sorted(dict(self._measured()).get(step, {}).items()))
