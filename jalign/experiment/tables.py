"""Writes a run's held-out results as tables and sentences."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jalign.pages.contents import with_ends
from jalign.pages.report import Table

Rows = Sequence[Mapping[str, Any]]

ACCURACIES = (
  ("eval/ranking_accuracy", "ranking accuracy"),
  ("eval/ranking_accuracy_per_token", "per-token ranking accuracy"),
  ("eval/reward_accuracy", "reward accuracy over its start"),
  ("samples/win_rate", "win rate over its start"),
  ("samples/win_rate_length_adjusted", "length-adjusted win rate"),
  ("samples/gold_win_rate", "gold win rate over its start"),
  ("samples/gold_agreement_share", "agreement with gold"),
)

# A judge's scores of sampled responses: means with their intervals, and
# standard deviations over all responses and within a prompt's.
SCORES = (
  ("samples/reward_mean", "reward"),
  ("samples/reward_std", "sd of the reward"),
  ("samples/reward_std_within_prompt", "sd within a prompt"),
  ("samples/gold_reward_mean", "gold reward"),
  ("samples/cost_mean", "cost"),
  ("samples/cost_std", "sd of the cost"),
  ("samples/cost_std_within_prompt", "sd of the cost within a prompt"),
  ("samples/gold_cost_mean", "gold cost"),
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
        trained_by(row["loss"], row.get("algorithm", "")),
        row["step"],
        *(percent(row[key]) if key in row else "" for key, _ in keys),
      )
      for row in rows
    ],
  )


def trained_by(loss: str, algorithm: str) -> str:
  """A stage's loss, after the algorithm that draws the stage's samples."""
  return f"{algorithm}: {loss}" if algorithm else loss


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
        *(_score(row.get(key, ""), key) for key in measures),
        row["samples/distinct_1_share"],
        row["samples/distinct_2_share"],
      )
      for row in rows
    ],
  )


def accuracies_said(rows: Rows) -> str:
  """Explains the columns of the table of held-out results."""
  said = (
    "Ranking accuracy is the share of held-out pairs whose chosen response the"
    " policy finds likelier. Reward accuracy is the share of pairs whose chosen"
    " response gained more likelihood than the rejected one over the policy"
    " that the stage started from."
  )
  if any("samples/win_rate" in row for row in rows):
    said += (
      " The win rate is over that policy: how often the annotator prefers the"
      " stage's sampled response."
    )
  if any("samples/win_rate_length_adjusted" in row for row in rows):
    said += (
      " The length-adjusted win rate estimates what the win rate would be if"
      " both policies' responses were equally long (by a regression of the"
      " preferences on the difference of lengths)."
    )
  if any("samples/gold_win_rate" in row for row in rows):
    said += (
      " The gold win rate is that under the gold judge, from which nothing is"
      " learned; agreement is the share of the pairs with the start's responses"
      " that both judges rank alike."
    )
  return said + (
    " In brackets are the ends of a 95 % interval, which treats a prompt, with"
    " all its pairs or samples, as one observation. The interval of a share is"
    " Wilson's, which lies unevenly around the share and stays within 0 and"
    " 100 %."
  )


def scores_said(rows: Rows) -> str:
  """Explains the columns of rewards and costs, if there are some."""
  names = [n for key, n in MEANS.items() if any(key in row for row in rows)]
  if not names:
    return ""
  name = " and ".join(names)
  return (
    f" {name.capitalize()}: mean of the config's {name} function, with a 95 %"
    " interval clustered by prompt; sd: its standard deviation over all"
    " samples, and among the samples of one prompt."
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


def _score(value: Any, name: str = "") -> Any:
  """A mean with its interval; a name that ends in "%" is that of a share."""
  if not isinstance(value, Mapping):
    return value
  if name.endswith("%"):
    return _percent(value[key] for key in ("mean", "low", "high"))
  return interval(value)


def interval(value: Mapping[str, float]) -> str:
  """A mean with its interval, as "1.23 ± 0.04"."""
  half = (value["high"] - value["low"]) / 2
  return f"{value['mean']:.2f} ± {half:.2f}"


def percent(rate: Mapping[str, float]) -> str:
  """A rate with its interval's ends, as "79.3 % (71.1 to 85.7)".

  The interval of a share lies around it unevenly, so no half-width is written.
  """
  return _percent(100 * rate[key] for key in ("mean", "low", "high"))


def _percent(ends: Iterable[float]) -> str:
  mean, low, high = ends
  return with_ends(mean, low, high, unit=" %")
