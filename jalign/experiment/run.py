"""A run: trains its stages in order, evaluates them, and writes the report."""

import pathlib
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jalign.experiment import identity
from jalign.experiment import scored as score_heads
from jalign.experiment.config.settings import Settings
from jalign.experiment.contest import Contest
from jalign.experiment.context import Run
from jalign.experiment.data.prepare import prepare
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk.start import (
  base_of,
  model_config,
  tokenizer_folder,
)
from jalign.experiment.heads import reads_head
from jalign.experiment.judges import Reading
from jalign.experiment.params import check_decoding, layout, start_params
from jalign.experiment.plugins import load_plugins
from jalign.experiment.reward_pairs import Kept
from jalign.experiment.run_report import Outcome, write_run_report
from jalign.experiment.share import Sharing, Sibling
from jalign.experiment.stage import run_stage
from jalign.experiment.stage_check import (
  check_base,
  check_config,
  check_stage,
)
from jalign.experiment.try_out import try_out
from jalign.feedback.counts import say_counts
from jalign.hosts import host0, same_everywhere, say
from jalign.sharding import make_mesh
from jalign.training import metrics, offload


def run_one(
  settings: Settings,
  config: Mapping[str, Any],
  folder: pathlib.Path,
  *,
  should_stop: Callable[[], bool] = lambda: False,
  siblings: Sequence[Sibling] = (),
  name: str = "",
) -> pathlib.Path:
  """Does a run, or what is left of it.

  Args:
    settings: the parsed config.
    config: the config as written, to be kept in the folder.
    folder: the run's folder.
    should_stop: called after each step; True stops the run.
    siblings: other runs of the sweep. Stages that they have finished, and that
      this run has, too, are taken from them.
    name: the config's name, for the report; "" leaves the name out.

  Returns:
    The path of the run's report.

  Raises:
    UserError: bad input, or a folder that holds another config's run.
    Interrupted: `should_stop` returned True; the state is saved.
  """
  started = time.perf_counter()
  config = {key: value for key, value in config.items() if key != "resume"}
  readings: list[Reading] = []  # filled once the data are prepared
  plugins = load_plugins(settings, lambda: readings[0])
  check_config(settings)
  mesh = make_mesh(*settings.mesh.sizes)
  folders.check(folder, config)
  base = base_of(settings)
  check_base(settings, base)
  prepared = prepare(settings, folder, base and tokenizer_folder(base))
  say(prepared.summary())
  readings.append(
    Reading(prepared.tokenizer, prepared.templates[settings.data.template])
  )
  model = model_config(settings, prepared.tokenizer, base)
  if base is not None:
    say(
      f"[model] {settings.init_from}: computes in {model.dtype}"
      f" (config.model.dtype), parameters in {model.param_dtype}"
    )
  padding = model.vocab_size - prepared.tokenizer.vocab_size
  if padding:
    say(f"[model] {padding} embeddings belong to no token: padding")
  parts = identity.made_of(settings, prepared, model)
  run = Run(
    folder=folder,
    prepared=prepared,
    model_config=model,
    mesh=mesh,
    seed=settings.seed,
    annotator=plugins.annotator,
    gold=plugins.gold,
    measures=plugins.measures,
    opponents=plugins.opponents,
    sample=settings.sample,
    should_stop=should_stop,
    extra_writers=_extra_writers(settings, config, folder),
    needs={
      stage.name: identity.needed_by(settings, stage, parts)
      for stage in settings.stages
    },
    anyway=settings.resume == identity.ANYWAY,
    sharing=Sharing(folder, settings, parts, siblings),
    decode_tensor=settings.mesh.decode_tensor,
  )
  layout(model, mesh)
  check_decoding(model, mesh, settings.mesh.decode_tensor)
  for stage in settings.stages:
    check_stage(run, stage)
  contest = Contest(run, settings)
  # Nothing is written before everything that can be checked is.
  made_of = identity.check(folder, settings, parts)
  with jax.set_mesh(mesh):  # where a judge's model may lie
    tried = try_out(plugins, settings, prepared)
  if tried:
    say(tried)
  same_everywhere(parts, "what the run is made of")
  folders.claim(folder, config)
  identity.keep(folder, made_of)
  names = tuple(s.name for s in settings.stages)
  folders.describe(folder, model, names, prepared.day)
  prepared.save(folder, settings)
  with jax.set_mesh(mesh):
    policies = {"start": start_params(model, mesh, settings.seed, base)}
    starts = settings.starts
    scored = {s.name for s in settings.stages if reads_head(s)}
    judged = {s.name for s in settings.stages if s.judge} - scored
    rows = []
    rewards: dict[str, Kept] = {}
    if "start" in {starts[name] for name in judged}:
      rows.append(contest("start", policies["start"]))
    for i, stage in enumerate(settings.stages):
      start = starts[stage.name]
      if offload.START in stage.offload:
        policies[start] = offload.parked(policies[start])
      result = run_stage(run, stage, policies[start])
      policies[start] = offload.on_device(policies[start])
      policies[stage.name] = result.params
      if stage.name in scored:
        kept = score_heads.keep(run, stage, result)
        rewards[stage.name] = kept
      elif stage.judge:
        rows.append(
          contest(stage.name, result.params, start, policies[start], result)
        )
      else:
        folders.write_json(
          folder / stage.name / "results.json",
          {"step": result.step, "evaluation": result.evaluation},
        )
      # The last stage's start stays, since best-of-n draws from it.
      later = {starts[s.name] for s in settings.stages[i + 1 :]}
      later.add(starts[settings.stages[-1].name])
      policies = {k: v for k, v in policies.items() if k in later}
    last = starts[settings.stages[-1].name]
    added, matrix, drawn = contest.contestants(rows, policies[last])
    say_counts(run.annotator)
  if matrix is not None:
    folders.write_json(
      folder / "win_matrix.json",
      {
        "names": matrix.names,
        "win_rate": matrix.win_rate.tolist(),
        "standard_error": matrix.standard_error.tolist(),
        "low": matrix.low.tolist(),
      },
    )
  if host0():
    write_run_report(
      Outcome(
        folder=folder,
        settings=settings,
        prepared=prepared,
        model=model,
        rows=rows,
        contestants=added,
        matrix=matrix,
        drawn=drawn,
        rewards=rewards,
        facts={
          "seconds": time.perf_counter() - started,
          "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
          / 2**20,
          "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
          "config": name,
          "went_on": identity.went_on(folder),
        },
      ),
      plugins.report,
    )
  return folder / "report.md"


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
      # Runs of two sweeps may have the same name.
      id=f"{identity.id_of(folder) or folder.name}-{stage}",
      resume="allow",
    )
  ]
