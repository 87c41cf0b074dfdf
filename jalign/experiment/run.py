"""A run: its stages one after another, each evaluated, then the report."""

import dataclasses
import pathlib
import resource
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jalign.errors import UserError
from jalign.experiment import folder as folders
from jalign.experiment.check import check_stage
from jalign.experiment.judge import Judge
from jalign.experiment.params import (
  fresh_params,
  layout,
  trained_params,
)
from jalign.experiment.plugins import load_annotator, load_function
from jalign.experiment.prepare import Prepared, prepare
from jalign.experiment.report import Outcome, write_run_report
from jalign.experiment.settings import Settings
from jalign.experiment.stage import Run, run_stage
from jalign.models import ModelConfig
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
  more = (
    load_function(settings.report, "config.report") if settings.report else None
  )
  mesh = make_mesh(**vars(settings.mesh))
  folders.check(folder, config)
  base = pathlib.Path(settings.init_from) if settings.init_from else None
  if base is not None:
    last_of_base = folders.stages_of(base)[-1]
    if not (base / last_of_base / "results.json").exists():
      raise UserError(
        f"its stage {last_of_base} isn't finished.",
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
  judge = Judge(run, settings)
  # Nothing is written before everything that can be checked is.
  folders.claim(folder, config)
  folders.describe(folder, model_config, tuple(s.name for s in settings.stages))
  prepared.save(folder)
  with jax.set_mesh(mesh):
    policies = {
      "start": trained_params(model_config, mesh, folders.last_stage(base))
      if base
      else fresh_params(model_config, mesh, settings.seed)
    }
    starts = _starts(settings)
    judged = {s.name for s in settings.stages if s.judge}
    rows = []
    if "start" in {starts[name] for name in judged}:
      rows.append(judge("start", policies["start"]))
    for i, stage in enumerate(settings.stages):
      start = starts[stage.name]
      result = run_stage(run, stage, policies[start])
      policies[stage.name] = result.params
      if stage.judge:
        rows.append(
          judge(stage.name, result.params, start, policies[start], result)
        )
      else:
        folders.write_json(
          folder / stage.name / "results.json",
          {"step": result.step, "evaluation": result.evaluation},
        )
      # The last start stays: best-of-n is drawn from it.
      later = {starts[s.name] for s in settings.stages[i + 1 :]}
      later.add(starts[settings.stages[-1].name])
      policies = {k: v for k, v in policies.items() if k in later}
    last = starts[settings.stages[-1].name]
    added, matrix, drawn = judge.contestants(rows, policies[last])
  if matrix is not None:
    folders.write_json(
      folder / "win_matrix.json",
      {
        "names": matrix.names,
        "win_rate": matrix.win_rate.tolist(),
        "standard_error": matrix.standard_error.tolist(),
      },
    )
  return write_run_report(
    Outcome(
      folder=folder,
      settings=settings,
      prepared=prepared,
      model=model_config,
      rows=rows,
      contestants=added,
      matrix=matrix,
      drawn=drawn,
      facts={
        "seconds": time.perf_counter() - started,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        / 2**20,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
      },
    ),
    more,
  )


def _starts(settings: Settings) -> dict[str, str]:
  """Name of the policy that each stage starts from."""
  before, starts = "start", {}
  for stage in settings.stages:
    starts[stage.name] = stage.start or before
    before = stage.name
  return starts


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
