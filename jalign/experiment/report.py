"""The report of a run, and the comparison of several."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jalign.evaluation import plots
from jalign.evaluation.report import (
  Figure,
  Samples,
  Section,
  Table,
  write_report,
)
from jalign.evaluation.win_rate import WinMatrix
from jalign.experiment import folder as folders
from jalign.experiment.prepare import Prepared
from jalign.experiment.settings import Settings
from jalign.models import ModelConfig, param_specs
from jalign.training.metrics import read_jsonl

# What a stage's curves show, where it was measured; the units are in metric
# names nowhere else.
CURVES = {
  "loss": "loss",
  "eval/loss": "held-out loss",
  "nll_per_token": "negative log-likelihood (nats/token)",
  "eval/nll_per_token": "held-out NLL (nats/token)",
  "margin": "margin of log-ratios (nats)",
  "reward_accuracy": "reward accuracy (training)",
  "eval/reward_accuracy": "held-out reward accuracy",
  "chosen_log_ratio": "chosen log pi/ref (nats)",
  "rejected_log_ratio": "rejected log pi/ref (nats)",
  "eval/win_rate": "held-out win rate over the stage before",
  "response_tokens": "response length (tokens)",
  "grad_norm": "gradient norm",
}

ACCURACIES = (
  ("ranking_accuracy", "ranking accuracy"),
  ("normalized_ranking_accuracy", "per-token ranking accuracy"),
  ("reward_accuracy", "reward accuracy over the stage before"),
  ("win_rate", "win rate over the stage before"),
  ("length_adjusted", "length-adjusted win rate"),
)


def write_run_report(
  folder: pathlib.Path,
  settings: Settings,
  prepared: Prepared,
  model: ModelConfig,
  rows: Sequence[Mapping[str, Any]],
  matrix: WinMatrix | None,
  facts: Mapping[str, Any],
) -> pathlib.Path:
  """Writes report.md and plots/ into the run's folder; returns its path.

  Args:
    folder: of the run.
    settings: of the run.
    prepared: its data.
    model: config of the model.
    rows: held-out results, the start first, then each stage.
    matrix: of their samples under the annotator, None without one.
    facts: seconds, peak_memory_gib, devices.
  """
  count = sum(_size(spec.shape) for spec in _leaves(param_specs(model)))
  sections = [
    Section(
      "Data",
      "\n".join(f"- {line}" for line in prepared.lines),
    ),
    Section(
      "Held-out results",
      [
        "Ranking accuracy: share of held-out pairs whose chosen response is"
        " likelier. Reward accuracy: whose chosen response gained more over"
        " the stage before. Win rate: of sampled responses, under the"
        " annotator; at equal length by our regression on the difference of"
        " lengths. 95 % intervals, clustered by prompt.",
        _results(rows),
        *_accuracy_plot(folder, rows),
      ],
    ),
  ]
  if matrix is not None:
    path = plots.plot_win_matrix(matrix, folder / "plots" / "win_matrix.png")
    caption = (
      "Win rates of sampled responses under the annotator, standard errors"
      " clustered by prompt."
    )
    sections.append(Section("Head to head", Figure(path, caption)))
  sections += _curves(folder, settings)
  sections.append(Section("Samples", Samples(_samples(rows))))
  sections.append(
    Section(
      "Run",
      Table(
        ("what", "value"),
        [
          ("parameters", f"{count:,}"),
          (
            "layers x width",
            f"{model.num_hidden_layers} x {model.hidden_size}",
          ),
          ("seed", str(settings.seed)),
          ("wall time of this call", f"{facts['seconds']:.0f} s"),
          ("peak memory", f"{facts['peak_memory_gib']:.2f} GiB"),
          ("devices", facts["devices"]),
        ],
      ),
    )
  )
  first, last = rows[0], rows[-1]
  summary = (
    f"Held-out ranking accuracy {_percent(first['ranking_accuracy'])} at the"
    f" start, {_percent(last['ranking_accuracy'])} after {last['name']}"
  )
  if "reward_accuracy" in last:
    summary += (
      f"; reward accuracy of {last['name']} over {last['against']}"
      f" {_percent(last['reward_accuracy'])}"
    )
  if "win_rate" in last:
    summary += f"; win rate over {last['against']} {_percent(last['win_rate'])}"
  return write_report(
    folder,
    title=settings.title or folder.name,
    sections=sections,
    summary=summary + ".",
  )


def write_comparison(
  workdir: pathlib.Path, names: Sequence[str]
) -> pathlib.Path:
  """Writes the report of a sweep: every run's last stage side by side."""
  rows, curves = [], {}
  for name in names:
    stage = folders.last_stage(workdir / name)
    results = folders.read_json(stage / "results.json")
    rows.append(
      (
        name,
        *(
          _percent(results[key]) if key in results else ""
          for key, _ in ACCURACIES
        ),
        results["evaluation"].get("eval/loss"),
      )
    )
    curves[name] = read_jsonl(stage / "metrics.jsonl")
  keys = _present(curves)
  path = plots.plot_metrics(
    curves, keys, workdir / "plots" / "comparison.png", window=5
  )
  header = ("run", *(label for _, label in ACCURACIES), "held-out loss")
  return write_report(
    workdir,
    title=f"Comparison of {len(names)} runs",
    sections=[
      Section("Held-out results", Table(header, rows)),
      Section("Training", Figure(path, "The last stage of every run.")),
    ],
  )


def _results(rows):
  header = (
    *("stage", "loss", "step"),
    *(label for _, label in ACCURACIES),
    *("response tokens", "ended with eos"),
  )
  return Table(
    header,
    [
      (
        row["name"],
        row["loss"],
        row["step"],
        *(_percent(row[key]) if key in row else "" for key, _ in ACCURACIES),
        row["response_tokens"],
        f"{100 * row['finished']:.0f} %",
      )
      for row in rows
    ],
  )


def summary(row: Mapping[str, Any]) -> str:
  """One line on a policy's held-out results, for the terminal."""
  parts = [
    f"{label} {_percent(row[key])}" for key, label in ACCURACIES if key in row
  ]
  return f"[{row['name']}] held out: {', '.join(parts)}"


def _percent(rate: Mapping[str, float]) -> str:
  half = 50 * (rate["high"] - rate["low"])
  return f"{100 * rate['mean']:.1f} ± {half:.1f} %"


def _accuracy_plot(folder, rows):
  colours = plots.run_colours([row["name"] for row in rows])
  bars, looks = {}, {}
  for row in rows:
    for key, label in ACCURACIES:
      if key in row:
        rate = row[key]
        bar = f"{row['name']}: {label.split(' over')[0]}"
        bars[bar] = tuple(100 * rate[k] for k in ("mean", "low", "high"))
        looks[bar] = colours[row["name"]]
  path = plots.plot_bars_with_intervals(
    bars,
    folder / "plots" / "accuracy.png",
    xlabel="% (95 % interval, clustered by prompt)",
    reference=50,
    looks=looks,
  )
  return [Figure(path, "Held-out accuracies and win rates of each stage.")]


def _curves(folder, settings):
  found = []
  for stage in settings.stages:
    rows = read_jsonl(folder / stage.name / "metrics.jsonl")
    keys = _present({stage.name: rows})
    path = plots.plot_metrics(
      {stage.name: rows},
      keys,
      folder / "plots" / f"{stage.name}.png",
      window=5,
    )
    found.append(Section(f"Stage {stage.name}", Figure(path, "Over steps.")))
  return found


def _present(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
  seen = {key for rows in runs.values() for row in rows for key in row}
  if "nll_per_token" in seen:  # the same curves, with a unit
    seen -= {"loss", "eval/loss"}
  return {key: label for key, label in CURVES.items() if key in seen}


def _samples(rows, shown: int = 8):
  per_prompt = len(rows[0]["samples"]) // len(rows[0]["prompts"])
  return [
    (
      prompt,
      {row["name"]: row["samples"][i * per_prompt] for row in rows[1:]},
    )
    for i, prompt in enumerate(rows[0]["prompts"][:shown])
  ]


def _leaves(tree):
  if isinstance(tree, dict):
    return [leaf for value in tree.values() for leaf in _leaves(value)]
  return [tree]


def _size(shape):
  total = 1
  for size in shape:
    total *= size
  return total
