"""Compares the runs of a sweep: by setting over seeds, and one by one."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jalign.experiment.commands.sweep import SweptRun
from jalign.experiment.curves import present
from jalign.experiment.disk import folder as folders
from jalign.experiment.tables import ACCURACIES, MEANS, interval, percent
from jalign.pages import plots
from jalign.pages.report import Figure, Section, Table, write_report
from jalign.pages.style import look
from jalign.training.metrics import read_jsonl

_LOSS = "held-out loss"
_ANY = "all runs"  # the setting, if only the seed was swept


def write_comparison(
  workdir: pathlib.Path, runs: Sequence[SweptRun]
) -> pathlib.Path:
  """Writes the report of a sweep, on every run's last stage.

  Args:
    workdir: folder of the sweep.
    runs: the finished runs.
  """
  stages = {run.name: folders.last_stage(workdir / run.name) for run in runs}
  results = {
    name: folders.read_json(stage / "results.json")
    for name, stage in stages.items()
  }
  groups = {run.name: run.setting or _ANY for run in runs}
  settings = list(dict.fromkeys(groups.values()))
  looks = {n: look(settings.index(group)) for n, group in groups.items()}
  curves = {
    n: read_jsonl(stage / "metrics.jsonl") for n, stage in stages.items()
  }
  keys = present(curves)
  one_loss = _same_loss(runs)
  if not one_loss:
    keys = {
      k: v for k, v in keys.items() if k not in ("train/loss", "eval/loss")
    }
  sections = []
  if len(settings) < len(runs):
    sections.append(_by_setting(groups, results, one_loss))
  sections.append(Section("Held-out results", _each(results, one_loss)))
  if keys:
    path = plots.plot_metrics(
      curves,
      keys,
      workdir / "plots" / "comparison.png",
      looks=looks,
      groups=groups,
      window=5,
    )
    caption = "The last stage of every run; runs of one colour differ in the"
    caption += " seed alone."
    sections.append(Section("Training", Figure(path, caption)))
  return write_report(
    workdir, title=f"Comparison of {len(runs)} runs", sections=sections
  )


def _same_loss(runs: Sequence[SweptRun]) -> bool:
  """Whether the last stages have the same loss, with the same data."""
  first, *others = (run.settings.stages[-1] for run in runs)
  alike = lambda s: (
    s.loss,
    s.algorithm,
    s.algorithm_settings,
    s.mix_ref,
    s.data,
  )
  return all(alike(other) == alike(first) for other in others)


def _columns(results: Mapping[str, Any], one_loss: bool) -> dict[str, str]:
  """Key of a result -> heading of its column."""
  columns = {
    key: label
    for key, label in ACCURACIES
    if any(key in result for result in results.values())
  }
  for key, name in MEANS.items():
    if any(key in result for result in results.values()):
      columns[key] = f"mean {name}"
  losses = [r["evaluation"].get("eval/loss") for r in results.values()]
  if one_loss and any(x is not None for x in losses):
    columns["eval/loss"] = _LOSS
  return columns


def _by_setting(groups, results, one_loss: bool) -> Section:
  columns = _columns(results, one_loss)
  rows = []
  for setting in dict.fromkeys(groups.values()):
    mine = [results[name] for name, group in groups.items() if group == setting]
    rows.append((setting, len(mine), *(_spread(mine, key) for key in columns)))
  note = (
    "Mean ± standard deviation over the runs of a setting, which differ in"
    " their seeds alone."
  )
  header = ("setting", "runs", *columns.values())
  return Section("By setting", [note, Table(header, rows)])


def _spread(results: Sequence[Mapping[str, Any]], key: str) -> str:
  """Mean and spread over runs, "62.3 ± 4.4 %"; a single run has no spread."""
  if key == "eval/loss":
    means = [result["evaluation"].get(key) for result in results]
    form, unit, scale = ".4f", "", 1
  else:
    means = [result[key]["mean"] for result in results if key in result]
    form, unit, scale = (".3g", "", 1) if key in MEANS else (".1f", " %", 100)
  values = [scale * value for value in means if value is not None]
  if not values:
    return ""
  text = f"{np.mean(values):{form}}"
  if len(values) > 1:
    text += f" ± {np.std(values, ddof=1):{form}}"
  missing = len(results) - len(values)
  return text + unit + (f" (of {len(values)} runs)" if missing else "")


def _each(results, one_loss: bool) -> list[Any]:
  columns = _columns(results, one_loss)
  rows = [
    (
      name,
      *(
        result["evaluation"].get(key)
        if key == "eval/loss"
        else (interval if key in MEANS else percent)(result[key])
        if key in result
        else ""
        for key in columns
      ),
    )
    for name, result in results.items()
  ]
  table: list[Any] = [Table(("run", *columns.values()), rows)]
  if not one_loss:
    table.append(
      "Held-out losses aren't compared: the runs have different losses, or the"
      " same one with other hyperparameters."
    )
  return table
