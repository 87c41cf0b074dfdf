"""Tables and sentences of a run's held-out results."""

from collections.abc import Mapping, Sequence
from typing import Any

from jalign.pages.report import Table

Rows = Sequence[Mapping[str, Any]]

ACCURACIES = (
  ("ranking_accuracy", "ranking accuracy"),
  ("normalized_ranking_accuracy", "per-token ranking accuracy"),
  ("reward_accuracy", "reward accuracy over its start"),
  ("win_rate", "win rate over its start"),
  ("length_adjusted", "length-adjusted win rate"),
)

# What a judge says of sampled responses: means with their intervals, standard
# deviations over all, and among those of a prompt.
SCORES = (
  ("reward", "reward"),
  ("reward_std", "sd of the reward"),
  ("reward_std_within_prompt", "sd within a prompt"),
  ("cost", "cost"),
  ("cost_std", "sd of the cost"),
  ("cost_std_within_prompt", "sd of the cost within a prompt"),
)


def headline(rows: Rows) -> str:
  """A sentence or two: what each policy won, or how well it ranks."""
  judged = [row for row in rows if "win_rate" in row]
  if judged:
    wins = [
      f"{row['name']} {percent(row['win_rate'])} over {row['against']}"
      for row in judged
    ]
    text = f"Held-out win rates: {', '.join(wins)}."
    for name in ("reward", "cost"):
      means = [
        f"{row['name']} {interval(row[name])}" for row in rows if name in row
      ]
      text += f" Mean {name}: {', '.join(means)}." if means else ""
    return text
  if not rows or "ranking_accuracy" not in rows[-1]:
    return ""
  last = rows[-1]
  text = (
    f"Held-out ranking accuracy {percent(rows[0]['ranking_accuracy'])} at"
    f" {rows[0]['name']}, {percent(last['ranking_accuracy'])} after"
    f" {last['name']}"
  )
  if "reward_accuracy" in last:
    text += (
      f"; reward accuracy of {last['name']} over {last['against']}"
      f" {percent(last['reward_accuracy'])}"
    )
  return text + "."


def results(rows: Rows) -> Table:
  """Table of losses, steps and held-out accuracies of policies."""
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
  """Table of what was measured on samples, of policies and contestants."""
  names = list(dict.fromkeys(n for row in rows for n in row["measures"]))
  header = ("policy", "KL", "tokens", "ended")
  scores = [(k, label) for k, label in SCORES if any(k in r for r in rows)]
  return Table(
    (
      *(*header, *(label for _, label in scores)),
      *(*names, "distinct-1", "distinct-2"),
    ),
    [
      (
        row["name"],
        interval(row["kl"]) if "kl" in row else "",
        row.get("response_tokens", ""),
        f"{100 * row['finished']:.0f} %" if "finished" in row else "",
        *(_score(row.get(key, "")) for key, _ in scores),
        *(
          interval(row["measures"][n]) if n in row["measures"] else ""
          for n in names
        ),
        row["distinct_1"],
        row["distinct_2"],
      )
      for row in rows
    ],
  )


def summary(row: Mapping[str, Any]) -> str:
  """One line on a policy's held-out results, for the terminal."""
  parts = [
    f"{label} {percent(row[key])}" for key, label in ACCURACIES if key in row
  ]
  parts += [
    f"{name} {interval(row[name])}"
    for name in ("reward", "cost")
    if name in row
  ]
  return f"[{row['name']}] held out: {', '.join(parts)}"


def _score(value: Any) -> Any:
  return interval(value) if isinstance(value, Mapping) else value


def interval(value: Mapping[str, float]) -> str:
  """ "1.23 ± 0.04" of a mean with its interval."""
  half = (value["high"] - value["low"]) / 2
  return f"{value['mean']:.2f} ± {half:.2f}"


def percent(rate: Mapping[str, float]) -> str:
  """ "62.3 ± 4.4 %", or "99.7 (99.1 to 100.0) %" of a lopsided interval."""
  low, mean, high = (100 * rate[key] for key in ("low", "mean", "high"))
  if abs(low + high - 2 * mean) > 0.1 * (high - low):  # cut off at 0 or 100
    return f"{mean:.1f} ({low:.1f} to {high:.1f}) %"
  return f"{mean:.1f} ± {(high - low) / 2:.1f} %"
