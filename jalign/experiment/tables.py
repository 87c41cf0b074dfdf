"""Writes a run's held-out results as tables and sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from jalign.pages.report import Table

Rows = Sequence[Mapping[str, Any]]

ACCURACIES = (
  ("eval/ranking_accuracy", "ranking accuracy"),
  ("eval/ranking_accuracy_per_token", "per-token ranking accuracy"),
  ("eval/reward_accuracy", "reward accuracy over its start"),
  ("samples/win_rate", "win rate over its start"),
  ("samples/win_rate_length_adjusted", "length-adjusted win rate"),
)

# A judge's scores of sampled responses: means with their intervals, and
# standard deviations over all responses and within a prompt's.
SCORES = (
  ("samples/reward_mean", "reward"),
  ("samples/reward_std", "sd of the reward"),
  ("samples/reward_std_within_prompt", "sd within a prompt"),
  ("samples/cost_mean", "cost"),
  ("samples/cost_std", "sd of the cost"),
  ("samples/cost_std_within_prompt", "sd of the cost within a prompt"),
)
MEANS = {"samples/reward_mean": "reward", "samples/cost_mean": "cost"}


def headline(rows: Rows) -> str:
  """A sentence or two: on what the policies won, or how well they rank."""
  judged = [row for row in rows if "samples/win_rate" in row]
  if judged:
    wins = [
      f"{row['name']} {percent(row['samples/win_rate'])} over {row['against']}"
      for row in judged
    ]
    text = f"Held-out win rates: {', '.join(wins)}."
    for key, name in MEANS.items():
      means = [
        f"{row['name']} {interval(row[key])}" for row in rows if key in row
      ]
      text += f" Mean {name}: {', '.join(means)}." if means else ""
    return text
  ranking, reward = "eval/ranking_accuracy", "eval/reward_accuracy"
  if not rows or ranking not in rows[-1]:
    return ""
  last = rows[-1]
  text = (
    f"Held-out ranking accuracy {percent(rows[0][ranking])} at"
    f" {rows[0]['name']}, {percent(last[ranking])} after"
    f" {last['name']}"
  )
  if reward in last:
    text += (
      f"; reward accuracy of {last['name']} over {last['against']}"
      f" {percent(last[reward])}"
    )
  return text + "."


def results(rows: Rows) -> Table:
  """A table of the policies' losses, steps and held-out accuracies."""
  keys = [(k, label) for k, label in ACCURACIES if any(k in r for r in rows)]
  header = ("stage", "loss", "step", *(label for _, label in keys))
  return Table(
    header,
    [
      (
        row["name"],
        row["loss"],
        row["step"],
        *(percent(row[key]) if key in row else "" for key, _ in keys),
      )
      for row in rows
    ],
  )


def sampled(rows: Rows) -> Table:
  """A table of measurements on samples, of policies and contestants."""
  own = [key for row in rows for key in row if key.startswith("measures/")]
  measures = list(dict.fromkeys(own))
  header, ended = ("policy", "KL", "tokens", "ended"), "samples/finished_share"
  scores = [(k, label) for k, label in SCORES if any(k in r for r in rows)]
  return Table(
    (
      *(*header, *(label for _, label in scores)),
      *(key.removeprefix("measures/") for key in measures),
      *("distinct-1", "distinct-2"),
    ),
    [
      (
        row["name"],
        _score(row.get("samples/kl_k1_nats", "")),
        row.get("samples/response_tokens", ""),
        f"{100 * row[ended]:.0f} %" if ended in row else "",
        *(_score(row.get(key, "")) for key, _ in scores),
        *(_score(row.get(key, "")) for key in measures),
        row["samples/distinct_1_share"],
        row["samples/distinct_2_share"],
      )
      for row in rows
    ],
  )


def summary(row: Mapping[str, Any]) -> str:
  """A line on a policy's held-out results, for the terminal."""
  parts = [
    f"{label} {percent(row[key])}" for key, label in ACCURACIES if key in row
  ]
  parts += [
    f"{name} {interval(row[key])}" for key, name in MEANS.items() if key in row
  ]
  return f"[{row['name']}] held out: {', '.join(parts)}"


def _score(value: Any) -> Any:
  return interval(value) if isinstance(value, Mapping) else value


def interval(value: Mapping[str, float]) -> str:
  """A mean with its interval, as "1.23 ± 0.04"."""
  half = (value["high"] - value["low"]) / 2
  return f"{value['mean']:.2f} ± {half:.2f}"


def percent(rate: Mapping[str, float]) -> str:
  """A rate as "62.3 ± 4.4 %" or, with a lopsided interval, as
  "99.7 (99.1 to 100.0) %"."""
  low, mean, high = (100 * rate[key] for key in ("low", "mean", "high"))
  if abs(low + high - 2 * mean) > 0.1 * (high - low):  # cut short at 0 or 100
    return f"{mean:.1f} ({low:.1f} to {high:.1f}) %"
  return f"{mean:.1f} ± {(high - low) / 2:.1f} %"
