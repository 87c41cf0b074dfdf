"""Writes the report of a run."""

import pathlib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jalign.evaluation import accuracy
from jalign.evaluation.reward_accuracy import told
from jalign.evaluation.win_rate import WinMatrix
from jalign.experiment.config.settings import Settings
from jalign.experiment.curves import present
from jalign.experiment.data.prepare import Prepared
from jalign.experiment.gold import gold_sections
from jalign.experiment.recipe import parameters, recipe, recipes
from jalign.experiment.reward_pairs import Kept
from jalign.experiment.sampling import SampledTexts
from jalign.experiment.tables import (
  ACCURACIES,
  accuracies_said,
  headline,
  percent,
  results,
  sampled,
  scores_said,
)
from jalign.models import ModelConfig, param_specs
from jalign.pages import plots
from jalign.pages.frontier import plot_frontier
from jalign.pages.markdown import escaped
from jalign.pages.report import (
  Figure,
  Samples,
  Section,
  Table,
  write_report,
)
from jalign.pages.reward_model import reward_model_section
from jalign.pages.reward_objectives import objectives_content
from jalign.pages.style import Looks
from jalign.training.checkpoint import versions
from jalign.training.metrics import read_jsonl

_KL, _WINS = "samples/kl_k1_nats", "samples/win_rate"


class Outcome(NamedTuple):
  """Everything that a report is written from.

  Attributes:
    folder: the run's folder.
    settings: the run's settings.
    prepared: the run's data.
    model: config of the model.
    rows: held-out results of the judged policies, in order.
    contestants: names, samples and measures of contestants that aren't the
      run's policies.
    matrix: win matrix of all samples under the annotator; None without one.
    drawn: the samples that best-of-n chose from; None without best-of-n.
    facts: seconds, peak_memory_gib, devices; the config's name; went_on: see
      `identity.went_on`.
    rewards: stage -> what the score head that the stage trained says of
      held-out pairs.
  """

  folder: pathlib.Path
  settings: Settings
  prepared: Prepared
  model: ModelConfig
  rows: Sequence[Mapping[str, Any]]
  contestants: Sequence[Mapping[str, Any]]
  matrix: WinMatrix | None
  drawn: SampledTexts | None
  facts: Mapping[str, Any]
  rewards: Mapping[str, Kept] = types.MappingProxyType({})


def write_run_report(
  outcome: Outcome, more: Callable[[Outcome], Sequence[Section]] | None = None
) -> pathlib.Path:
  """Writes the report and its plots into the run's folder.

  Args:
    outcome: the run's outcome.
    more: makes the sections that come first; by default only the frontier.

  Returns:
    The path of report.md.
  """
  folder, settings, rows = outcome.folder, outcome.settings, outcome.rows
  prepared, matrix = outcome.prepared, outcome.matrix
  looks = colours(outcome)
  sections = [*(more(outcome) if more else frontier(outcome))]
  for name, kept in outcome.rewards.items():
    sections += _score_head(folder, name, kept, looks)
  if rows:
    sections.append(
      Section(
        "Held-out results",
        [
          accuracies_said(rows),
          results(rows),
          *_accuracy_plot(folder, rows, looks),
          "Samples of each policy. KL: to the policy that the stage started"
          " from, in nats a response, estimated on the samples. distinct-n:"
          " different n-grams of words, a share of all." + scores_said(rows),
          sampled([*rows, *outcome.contestants]),
        ],
      )
    )
  if matrix is not None:
    path = plots.plot_win_matrix(
      matrix,
      folder / "plots" / "win_matrix.png",
      separators=(len(rows),) if outcome.contestants else (),
    )
    caption = (
      "Win rates of sampled responses under the annotator, with 95 % intervals"
      " clustered by prompt."
    )
    sections.append(Section("Head to head", Figure(path, caption)))
  if rows:
    sections.append(Section("Samples", _samples(rows, settings.init_from)))
  sections += gold_sections(folder, settings)
  sections += _curves(folder, settings, looks)
  sections.append(
    Section("Data", "\n".join(f"- {escaped(x)}" for x in prepared.lines))
  )
  sections.append(Section("Run", _run(outcome)))
  return write_report(
    folder,
    title=settings.title or folder.name,
    sections=sections,
    summary=escaped(_headline(outcome)),
  )


def _score_head(folder, name: str, kept: Kept, looks) -> list[Section]:
  """The sections of a stage that trained a score head."""
  sections = []
  if kept.pairs is not None:
    sections.append(
      reward_model_section(
        {name: kept.pairs},
        folder,
        title=f"Score head of {name}",
        name=f"{name}_rewards",
        looks=looks,
      )
    )
  if kept.objectives is not None:
    title = f"Objectives of {name}"
    sections.append(Section(title, objectives_content(kept.objectives)))
  return sections


def _headline(outcome: Outcome) -> str:
  """What the policies won, and how well the score heads rank."""
  ranked = [
    f"{name} {percent(told(accuracy(kept.pairs)))}"
    for name, kept in outcome.rewards.items()
    if kept.pairs is not None
  ]
  said = f"Held-out accuracy of scores: {', '.join(ranked)}." if ranked else ""
  return " ".join(filter(None, (said, headline(outcome.rows))))


def colours(outcome: Outcome) -> Looks:
  """The look of each policy and contestant, the same on every plot."""
  names = [
    *(row["name"] for row in outcome.rows),
    *(s.name for s in outcome.settings.stages),
  ]
  names += [row["name"] for row in outcome.contestants]
  return plots.run_colours(names)


def frontier(
  outcome: Outcome, references: Mapping[str, float] | None = None
) -> list[Section]:
  """Plots win rate against KL, with the path of each stage while it trained.

  KL and win rate are relative to the policy that a stage started from, so
  stages from different policies have separate plots.

  Args:
    outcome: the run's outcome.
    references: label -> value in per cent, to mark by a dashed line.

  Returns:
    One section, or none if no policy was compared with its start.
  """
  points: dict[str, dict[str, tuple[float, ...]]] = {}
  for row in outcome.rows:
    if _KL in row and _WINS in row:
      points.setdefault(row["against"], {})[row["name"]] = (
        row[_KL]["mean"],
        (row[_KL]["high"] - row[_KL]["low"]) / 2,
        *(100 * row[_WINS][k] for k in ("mean", "low", "high")),
      )
  figures, plotted = [], outcome.folder / "plots"
  for i, (start, mine) in enumerate(points.items()):
    curves = _paths(outcome, mine)
    picture = plot_frontier(
      mine,
      plotted / ("frontier.png" if not i else f"frontier_{i + 1}.png"),
      xlabel=f"KL to {start} (nats a response)",
      ylabel=f"win rate over {start} (%)",
      curves=curves,
      references=references,
      looks=colours(outcome),
    )
    caption = (
      f"What each policy that started from {start} wins over it, and how"
    )
    caption += " far it went for it, with 95 % intervals."
    if curves:
      caption += (
        " A line is the path of a stage while it trained, where samples were"
        " measured; it ends at an open circle beside its policy's dot, because"
        " other samples measured the path, or an earlier state was selected."
      )
    figures.append(Figure(picture, caption))
  return [Section("Frontier", figures)] if figures else []


def _paths(outcome: Outcome, names: Iterable[str]) -> dict[str, Any]:
  """Stage -> (KLs, win rates in %), for stages evaluated on samples."""
  curves = {}
  for name in names:
    rows = read_jsonl(outcome.folder / name / "metrics.jsonl")
    path = [r for r in rows if _KL in r and _WINS in r]
    if path:
      curves[name] = (
        [r[_KL] for r in path],
        [100 * r[_WINS] for r in path],
      )
  return curves


_BARS = ("eval/ranking_accuracy", "eval/reward_accuracy", _WINS)


def _accuracy_plot(folder, rows, colours):
  bars, looks = {}, {}
  for row in rows:
    for key, label in ACCURACIES:
      if key in row and key in _BARS:
        rate = row[key]
        bar = f"{row['name']}: {label.split(' over')[0]}"
        bars[bar] = tuple(100 * rate[k] for k in ("mean", "low", "high"))
        looks[bar] = colours[row["name"]]
  if not bars:
    return []
  path = plots.plot_bars_with_intervals(
    bars,
    folder / "plots" / "accuracy.png",
    xlabel="% (95 % interval, clustered by prompt)",
    reference=50,
    looks=looks,
  )
  return [Figure(path, "Held-out accuracies and win rates of each stage.")]


def _curves(folder, settings, looks):
  sections = []
  for stage in settings.stages:
    rows = read_jsonl(folder / stage.name / "metrics.jsonl")
    keys = present({stage.name: rows})
    path = plots.plot_metrics(
      {stage.name: rows},
      keys,
      folder / "plots" / f"{stage.name}.png",
      looks=looks,
      window=5,
    )
    caption = (
      "Over steps; where a curve is drawn twice, faint as it was logged and"
      " strong as its running mean over 5 points."
    )
    sections.append(Section(f"Stage {stage.name}", Figure(path, caption)))
  return sections


def _samples(rows, init_from: str, shown: int = 8) -> Samples:
  """Prompts with a response of each policy; fresh parameters write no text."""
  if not rows:
    return Samples([])
  policies = [row for row in rows if init_from or row["name"] != "start"]
  prompts = rows[0].get("written_prompts", rows[0]["prompts"])
  per_prompt = len(rows[0]["samples"]) // len(prompts)
  return Samples(
    [
      (p, {row["name"]: row["samples"][i * per_prompt] for row in policies})
      for i, p in enumerate(prompts[:shown])
    ]
  )


def _run(outcome: Outcome) -> list[Any]:
  """How each stage was trained, and with what."""
  settings, model, facts = outcome.settings, outcome.model, outcome.facts
  stages = {
    stage.name: recipe(
      settings,
      stage,
      model,
      read_jsonl(outcome.folder / stage.name / "metrics.jsonl"),
    )
    for stage in settings.stages
  }
  known = versions()
  rows = [
    ("config", facts.get("config", "")),
    ("began on", outcome.prepared.day.isoformat()),
    ("parameters", f"{parameters(param_specs(model)):,}"),
    ("layers x width", f"{model.num_hidden_layers} x {model.hidden_size}"),
    ("dtype of parameters", model.param_dtype),
    ("dtype of computation", model.dtype),
    ("seed", str(settings.seed)),
    ("wall time of this call", f"{facts['seconds']:.0f} s"),
    ("peak memory", f"{facts['peak_memory_gib']:.2f} GiB"),
    ("devices", facts["devices"]),
    ("versions", f"jalign {known['jalign']}, jax {known['jax']}"),
    *(("changed since it began", name) for name in facts.get("went_on", ())),
  ]
  return [
    recipes(stages),
    "`config.json` in the run's folder has every key of the config.",
    Table(("what", "value"), [row for row in rows if row[1]]),
  ]
