"""A run: its stages one after another, each evaluated, then the report."""

import dataclasses
import importlib
import importlib.util
import pathlib
import resource
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jalign.errors import UserError
from jalign.evaluation import likelihood
from jalign.evaluation.win_rate import (
  LengthAdjusted,
  WinMatrix,
  WinRate,
  head_to_head,
  length_adjusted,
  win_rate,
)
from jalign.experiment import folder as folders
from jalign.experiment.params import (
  fresh_params,
  layout,
  trained_params,
)
from jalign.experiment.prepare import Prepared, place, prepare
from jalign.experiment.report import summary, write_run_report
from jalign.experiment.sampling import Samples, sample_texts
from jalign.experiment.settings import AnnotatorSettings, Settings
from jalign.experiment.stage import (
  Run,
  StageResult,
  check_stage,
  run_stage,
)
from jalign.experiment.streams import stream
from jalign.feedback import Annotator, from_preference, from_reward
from jalign.models import ModelConfig, transformer
from jalign.sharding import make_mesh
from jalign.training import metrics


def run_one(
  settings: Settings,
  config: Mapping[str, Any],
  folder: pathlib.Path,
  *,
  should_stop: Callable[[], bool] = lambda: False,
) -> pathlib.Path:
  """Does a run, or what is left of it; returns the path of its report.

  Args:
    settings: parsed config.
    config: the config as written, to be kept in the folder.
    folder: of the run.
    should_stop: polled after each step.

  Raises:
    UserError: bad input, or a folder that holds another config's run.
    Interrupted: after saving, when `should_stop` says so.
  """
  started = time.perf_counter()
  annotator = load_annotator(settings.annotator)
  mesh = make_mesh(**vars(settings.mesh))
  folders.check(folder, config)
  base = pathlib.Path(settings.init_from) if settings.init_from else None
  if base is not None:
    stage_of_base = folders.last_stage(base)
    if not (stage_of_base / "results.json").exists():
      raise UserError(
        f"its stage {stage_of_base.name} isn't finished.",
        where=str(base),
        remedy="Finish that run first: the same command resumes it.",
      )
  prepared = prepare(settings, folder, base)
  print(prepared.summary())
  model_config = _model_config(settings, prepared, base)
  run = Run(
    folder=folder,
    prepared=prepared,
    model_config=model_config,
    mesh=mesh,
    seed=settings.seed,
    annotator=annotator,
    sample=settings.sample,
    should_stop=should_stop,
    extra_writers=_extra_writers(settings, config, folder),
  )
  layout(model_config, mesh)
  for stage in settings.stages:
    check_stage(run, stage)
  # Nothing is written before everything that can be checked is.
  folders.claim(folder, config)
  folders.describe(folder, model_config, tuple(s.name for s in settings.stages))
  prepared.save(folder)
  with jax.set_mesh(mesh):
    evaluate = _Judge(run, settings)
    params = (
      trained_params(model_config, mesh, folders.last_stage(base))
      if base
      else fresh_params(model_config, mesh, settings.seed)
    )
    rows = [evaluate("start", params, None)]
    for stage in settings.stages:
      result = run_stage(run, stage, params)
      params = result.params
      rows.append(evaluate(stage.name, params, result))
    matrix = evaluate.matrix(rows)
  facts = {
    "seconds": time.perf_counter() - started,
    "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    / 2**20,
    "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
  }
  return write_run_report(
    folder, settings, prepared, model_config, rows, matrix, facts
  )


def load_annotator(settings: AnnotatorSettings) -> Annotator | None:
  """The annotator that a config names, None for none.

  Raises:
    UserError: the file or function isn't there, or the kind is unknown.
  """
  where = "config.annotator.function"
  if not settings.function:
    return None
  place_, _, name = settings.function.rpartition(":")
  try:
    if place_.endswith(".py"):
      spec = importlib.util.spec_from_file_location("annotator", place_)
      if spec is None or spec.loader is None:
        raise ImportError(place_)
      module = importlib.util.module_from_spec(spec)
      spec.loader.exec_module(module)
    else:
      module = importlib.import_module(place_)
    function = getattr(module, name)
  except (ImportError, OSError, AttributeError, ValueError) as e:
    raise UserError(
      f"{settings.function!r} can't be loaded ({e}).",
      where=where,
      remedy="Write it as FILE.py:NAME or package.module:NAME.",
    ) from e
  if settings.kind == "reward":
    return from_reward(function, scale=settings.scale)
  if settings.kind == "preference":
    return from_preference(function)
  raise UserError(
    f"{settings.kind!r} is not 'reward' or 'preference'.",
    where="config.annotator.kind",
  )


def _model_config(
  settings: Settings, prepared: Prepared, base: pathlib.Path | None
) -> ModelConfig:
  if base is None:
    needed = (
      "hidden_size",
      "intermediate_size",
      "num_hidden_layers",
      "num_attention_heads",
      "num_key_value_heads",
    )
    missing = [name for name in needed if not settings.model.get(name)]
    if missing:
      raise UserError(f"lacks {', '.join(missing)}.", where="config.model")
    return ModelConfig(
      vocab_size=prepared.tokenizer.vocab_size, **settings.model
    )
  there = folders.model_of(base)
  defaults = {f.name: f.default for f in dataclasses.fields(ModelConfig)}
  for name, value in settings.model.items():
    given = value not in (defaults[name], 0)  # 0: what base.py has for none
    if given and getattr(there, name) != value:
      raise UserError(
        f"{value!r} differs from {getattr(there, name)!r} of {base}.",
        where=f"config.model.{name}",
        remedy="Leave the model out: init_from gives it.",
      )
  return there


def _extra_writers(
  settings: Settings, config: Mapping[str, Any], folder: pathlib.Path
):
  if not settings.wandb_project:
    return lambda stage: []
  return lambda stage: [
    metrics.WandbWriter(
      settings.wandb_project,
      name=f"{folder.name}/{stage}",
      config=config,
      id=f"{folder.name}-{stage}",
      resume="allow",
    )
  ]


class _Judge:
  """Held-out results of each policy, compared with the one before it."""

  def __init__(self, run: Run, settings: Settings):
    self._run, self._settings = run, settings
    self._model = transformer(run.model_config)
    self._score = likelihood.make_scorer(self._model)
    self._past: tuple[str, likelihood.PairScores, Samples] | None = None

  def __call__(
    self, name: str, params: Any, result: StageResult | None
  ) -> dict[str, Any]:
    run, settings = self._run, self._settings
    prepared = run.prepared
    size = settings.stages[-1].batch_size
    scores = self._score(
      params,
      prepared.loader("pairs", "eval", size, epochs=1, shuffle=False),
      lambda record: place(record, run.mesh),
    )
    groups = prepared.groups(scores.sources)
    row: dict[str, Any] = {
      "name": name,
      "loss": result.loss if result else "",
      "step": result.step if result else 0,
      "evaluation": result.evaluation if result else {},
      "ranking_accuracy": _as_dict(likelihood.ranking_accuracy(scores, groups)),
      "normalized_ranking_accuracy": _as_dict(
        likelihood.normalized_ranking_accuracy(scores, groups)
      ),
    }
    prompts = prepared.sample_prompts(settings.sample.prompts)
    samples = sample_texts(
      self._model,
      params,
      prepared.tokenizer,
      prompts,
      settings.sample,
      seed=stream(run.seed, "report", name),
    )
    row |= {
      "response_tokens": float(np.mean(samples.tokens)),
      "finished": samples.finished,
    }
    if self._past is not None:
      before, past_scores, past_samples = self._past
      row["against"] = before
      row["reward_accuracy"] = _as_dict(
        likelihood.reward_accuracy(scores, past_scores, groups)
      )
      row |= self._duel(samples, past_samples)
    row["prompts"] = [prompt.text for prompt in prompts]
    row["samples"] = samples.texts
    self._past = (name, scores, samples)
    print(summary(row))
    if result is not None:
      target = run.folder / name
      folders.write_json(target / "results.json", row)
    return row

  def matrix(self, rows: list[dict[str, Any]]) -> WinMatrix | None:
    """Every policy's samples against every other's, under the annotator."""
    annotator = self._run.annotator
    if annotator is None or self._past is None:
      return None
    samples = self._past[2]  # every policy answers the same prompts
    return head_to_head(
      {row["name"]: row["samples"] for row in rows},
      lambda a, b: annotator(samples.prompts, a, b),
      samples.prompt_ids,
    )

  def _duel(self, samples: Samples, past: Samples) -> dict[str, Any]:
    """Win rate over the policy before, where there is an annotator."""
    annotator, ids = self._run.annotator, samples.prompt_ids
    if annotator is None:
      return {}
    preference = annotator(samples.prompts, samples.texts, past.texts)
    found = {"win_rate": _as_dict(win_rate(preference, ids))}
    if len(set(samples.tokens - past.tokens)) > 1:  # or there is no effect
      found["length_adjusted"] = _as_dict(
        length_adjusted(preference, samples.tokens, past.tokens, ids)
      )
    return found


def _as_dict(rate: WinRate | LengthAdjusted) -> dict[str, float]:
  return {
    "mean": float(rate.win_rate),
    "low": float(rate.interval[0]),
    "high": float(rate.interval[1]),
  }
