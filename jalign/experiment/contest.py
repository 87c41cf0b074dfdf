"""Evaluates the policies of a run on held-out data, and plays them together."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from jalign.errors import UserError
from jalign.evaluation import likelihood
from jalign.evaluation.best_of_n import best_of_n
from jalign.evaluation.clustered import Mean, clustered_mean, clustered_share
from jalign.evaluation.diversity import distinct_n
from jalign.evaluation.win_rate import (
  WinMatrix,
  head_to_head,
  length_adjusted,
  win_rate,
)
from jalign.experiment.answers import sampled_answers, written_answers
from jalign.experiment.config.settings import Settings
from jalign.experiment.config.streams import stream
from jalign.experiment.context import Run
from jalign.experiment.disk import folder as folders
from jalign.experiment.gold import Both, gold_means, gold_rewards
from jalign.experiment.sampling import SampledTexts, sample_texts
from jalign.experiment.stage import StageResult
from jalign.experiment.tables import summary
from jalign.feedback import (
  Answers,
  Assessed,
  assess,
  compare,
  reward_statistics,
)
from jalign.glossary import in_section
from jalign.hosts import say
from jalign.models import transformer
from jalign.sharding import place
from jalign.training.kinds import PAIRS
from jalign.training.progress import follow


@dataclasses.dataclass
class _Judged:
  """What is kept of a judged policy, to compare other policies with it."""

  scores: likelihood.PairScores | None
  samples: SampledTexts
  assessed: Assessed | None  # None without an annotator
  gold: Assessed | None = None  # None without a gold judge


class Contest:
  """Samples and scores policies, each compared with the policy before it.

  Args:
    run: what the stages share.
    settings: the run's settings.
  """

  def __init__(self, run: Run, settings: Settings):
    self._run, self._settings = run, settings
    self._model = transformer(run.model_config, run.decode_tensor)
    self._score = likelihood.make_scorer(self._model)
    self._measure = run.measures
    self._judged: dict[str, _Judged] = {}
    self._prompts = run.prepared.main.sample_prompts(settings.sample.prompts)
    self._opponents = run.opponents(
      [p.text for p in self._prompts for _ in range(settings.sample.per_prompt)]
    )
    taken = {"start", f"best of {settings.sample.best_of}"}
    taken |= {stage.name for stage in settings.stages}
    for name in taken & set(self._opponents):
      raise UserError(
        f"{name!r} is the name of a policy.",
        where="config.annotator.opponents",
        remedy="Give the opponent another name.",
      )

  def __call__(
    self,
    name: str,
    params: Any,
    start: str = "",
    start_params: Any = None,
    result: StageResult | None = None,
  ) -> dict[str, Any]:
    """Judges a policy; writes results.json into a stage's folder.

    Args:
      name: name of the stage, or "start".
      params: the policy's parameters.
      start: name of the policy that it started from; the two are compared if
        that policy was judged.
      start_params: parameters of that policy.
      result: the stage's `StageResult`; None for the start.

    Returns:
      The results: a row of names and values.
    """
    run, main = self._run, self._run.prepared.main
    before = self._judged.get(start)
    row = self._described(name, result)
    scores = None
    if main.serves(PAIRS):
      scores = self._score(
        params,
        follow(
          main.loader(
            PAIRS,
            "eval",
            self._settings.stages[-1].batch_size,
            epochs=1,
            shuffle=False,
          ),
          f"{name}: held-out pairs",
          "batch",
        ),
        lambda record: place(record, run.mesh),
      )
      row |= self._accuracies(scores, before)
    samples = self._sample(name, params, start_params if before else None)
    answers = sampled_answers(samples, main)
    assessed, gold = self._assess(answers), None
    row |= self._measures(samples.texts, samples, assessed)
    if run.gold is not None:
      gold = assess(run.gold, answers)
      means = gold_rewards(gold, samples.prompt_ids)
      row |= {f"samples/{k}": _interval(mean) for k, mean in means.items()}
    row |= {
      "samples/response_tokens": float(np.mean(samples.tokens)),
      "samples/finished_share": samples.finished,
    }
    if before is not None:
      row["against"] = start
      if self._settings.sample.plain:
        kl = clustered_mean(
          samples.logps - samples.ref_logps, samples.prompt_ids
        )
        row["samples/kl_k1_nats"] = _interval(kl)
      row |= self._duel(samples, assessed, before)
      row |= self._gold_duel(samples, assessed, gold, before)
    row["prompts"] = [prompt.text for prompt in self._prompts]
    row["samples"] = samples.texts
    written = [prompt.written for prompt in self._prompts]
    if written != row["prompts"]:
      row["written_prompts"] = written  # with the goals that the model reads
    self._judged[name] = _Judged(scores, samples, assessed, gold)
    say(summary(row))
    if result is not None:
      folders.write_json(run.folder / name / "results.json", row)
    return row

  def contestants(
    self, rows: list[dict[str, Any]], params: Any
  ) -> tuple[list[dict[str, Any]], WinMatrix | None, SampledTexts | None]:
    """Adds best-of-n and the fixed opponents, and plays all against all.

    Args:
      rows: rows of the judged policies.
      params: parameters of the policy that best-of-n draws from.

    Returns:
      (rows of the added contestants; the win matrix, or None without an
      annotator; the samples that best-of-n chose from, or None).
    """
    annotator, settings = self._run.annotator, self._settings
    if annotator is None or not rows:
      return [], None, None
    samples = self._judged[rows[0]["name"]].samples
    texts = {row["name"]: row["samples"] for row in rows}
    judgements = {name: self._judged[name].assessed for name in texts}
    n, drawn = settings.sample.best_of, None
    if n:
      name = f"best of {n}"
      texts[name], judgements[name], drawn = self._best_of(n, params)
    for name, opposed in self._opponents.items():
      answers = written_answers(
        [p for p in self._prompts for _ in range(settings.sample.per_prompt)],
        opposed,
        self._run.prepared.main,
        self._run.prepared.tokenizer,
        annotator,
      )
      texts[name], judgements[name] = opposed, assess(annotator, answers)
    added = [
      {"name": name, "samples": texts[name]}
      | self._measures(texts[name], samples, judgements[name])
      for name in texts
      if name not in {row["name"] for row in rows}
    ]
    matrix = head_to_head(
      judgements, functools.partial(compare, annotator), samples.prompt_ids
    )
    return added, matrix, drawn

  def _best_of(
    self, n: int, params: Any
  ) -> tuple[list[str], Assessed, SampledTexts]:
    """(texts of the best samples, their assessments, all samples)."""
    annotator, sample = self._run.annotator, self._settings.sample
    assert annotator is not None  # `contestants` saw to it
    many = dataclasses.replace(sample, per_prompt=n * sample.per_prompt)
    drawn = self._sample(f"best of {n}", params, None, many)
    judged = assess(annotator, sampled_answers(drawn, self._run.prepared.main))
    best = best_of_n(
      range(len(judged)),
      n,
      lambda a, b: compare(annotator, judged.take(a), judged.take(b)),
    )
    return [drawn.texts[i] for i in best], judged.take(best), drawn

  def _described(self, name, result: StageResult | None) -> dict[str, Any]:
    if result is None:
      return {"name": name, "loss": "", "step": 0, "evaluation": {}}
    algorithm = self._settings.stage(name).algorithm
    return {
      "name": name,
      "loss": result.loss,
      **({"algorithm": algorithm} if algorithm else {}),
      "step": result.step,
      "evaluation": result.evaluation,
    }

  def _assess(self, answers: Answers) -> Assessed | None:
    """Assesses responses; None without an annotator."""
    annotator = self._run.annotator
    return annotator and assess(annotator, answers)

  def _sample(self, name, params, ref_params, sample=None) -> SampledTexts:
    annotator = self._run.annotator
    return sample_texts(
      self._model,
      params,
      self._run.prepared.tokenizer,
      self._prompts,
      sample or self._settings.sample,
      seed=stream(self._run.seed, "report", name),
      ref_params=ref_params,
      keep_tokens=any(
        judge is not None and judge.reads_tokens
        for judge in (annotator, self._run.gold)
      ),
      description=f"{name}: samples",
    )

  def _accuracies(self, scores, before: _Judged | None) -> dict[str, Any]:
    groups = self._run.prepared.main.groups(scores.sources)
    rates = {
      "ranking_accuracy": likelihood.ranking_accuracy(scores, groups),
      "ranking_accuracy_per_token": likelihood.ranking_accuracy_per_token(
        scores, groups
      ),
    }
    if before is not None and before.scores is not None:
      rates["reward_accuracy"] = likelihood.reward_accuracy(
        scores, before.scores, groups
      )
    return in_section(
      "eval", {name: _interval(rate) for name, rate in rates.items()}
    )

  def _measures(self, texts, samples, assessed) -> dict[str, Any]:
    """Rewards, the config's measures, and the diversity of the texts."""
    ids = samples.prompt_ids
    measured: dict[str, Any] = {}
    if assessed is not None:
      measured |= reward_statistics(assessed, ids)
      for name in ("reward", "cost"):
        if getattr(assessed, name) is not None:
          numbers = assessed.numbers(name)
          answered = ~np.isnan(numbers)
          mean = clustered_mean(numbers[answered], ids[answered])
          measured[f"{name}_mean"] = _interval(mean)
    measured["distinct_1_share"] = distinct_n(texts, 1)
    measured["distinct_2_share"] = distinct_n(texts, 2)
    own = {
      name: _interval(_mean(name, values, ids))
      for name, values in self._measure(samples.prompts, texts).items()
    }
    return in_section("measures", own) | in_section("samples", measured)

  def _duel(self, samples, assessed, before: _Judged) -> dict[str, Any]:
    """Win rate over the policy before, if there is an annotator."""
    annotator, ids = self._run.annotator, samples.prompt_ids
    if annotator is None or assessed is None or before.assessed is None:
      return {}
    past = before.samples
    preference = compare(annotator, assessed, before.assessed)
    duel: dict[str, Any] = {
      "samples/win_rate": _interval(win_rate(preference, ids))
    }
    if not annotator.answers_all:
      duel["samples/unanswered_share"] = float(np.mean(np.isnan(preference)))
    if len(set(samples.tokens - past.tokens)) > 1:  # else no effect can be seen
      duel["samples/win_rate_length_adjusted"] = _interval(
        length_adjusted(preference, samples.tokens, past.tokens, ids)
      )
    return duel

  def _gold_duel(
    self, samples, assessed, gold, before: _Judged
  ) -> dict[str, Any]:
    """What the gold judge says of the samples beside the start's."""
    annotator, gold_judge = self._run.annotator, self._run.gold
    asked = ((assessed, gold), (before.assessed, before.gold))
    sides = [Both(a, g) for a, g in asked if a is not None and g is not None]
    if annotator is None or gold_judge is None or len(sides) < 2:
      return {}
    ids, (mine, there) = samples.prompt_ids, sides
    means = gold_means(annotator, gold_judge, mine, there, ids)
    return {
      f"samples/{name}": float(mean.mean)
      if np.isnan(mean.interval[0])
      else _interval(mean)
      for name, mean in means.items()
    }


def _mean(name: str, values: np.ndarray, ids: np.ndarray) -> Mean:
  """The mean of a measure; a measure in per cent gets a share's interval."""
  inside = bool(((values >= 0) & (values <= 100)).all())
  if name.endswith("%") and inside:
    return clustered_share(values, ids, scale=100)
  return clustered_mean(values, ids)


def _interval(rate: Any) -> Mapping[str, float]:
  mean = rate.win_rate if hasattr(rate, "win_rate") else rate.mean
  return {
    "mean": float(mean),
    "low": float(rate.interval[0]),
    "high": float(rate.interval[1]),
  }
