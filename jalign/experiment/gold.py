"""A gold judge, which only measures, beside the judge that a stage learns from.

A policy that learns from a learned judge ends where the judge errs in its
favour: the judge's reward goes on rising while that of whoever the judge was
learned from falls. Gao, Schulman and Hilton 2022, "Scaling Laws for Reward
Model Overoptimization", arXiv:2210.10760, call the latter the gold reward.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jalign.evaluation.calibration import agreement, reliability
from jalign.evaluation.clustered import Mean, clustered_mean, clustered_share
from jalign.evaluation.scored_pairs import from_probabilities
from jalign.experiment.config.settings import Settings
from jalign.feedback import Answers, Assessed, Judge, assess, compare
from jalign.pages import plots
from jalign.pages.report import Figure, Section
from jalign.training.metrics import read_jsonl

# Panels of a stage's figure: title -> (label of a curve -> metric).
PANELS = {
  "win rate over the start": {
    "judge": "samples/win_rate",
    "gold": "samples/gold_win_rate",
  },
  "reward by the judge": {"judge": "samples/reward_mean"},
  "reward by the gold judge": {"gold": "samples/gold_reward_mean"},
  "agreement on pairs with the start": {
    "both": "samples/gold_agreement_share",
  },
  "agreement within a prompt": {
    "both": "samples/gold_agreement_within_prompt_share",
  },
  "calibration error by gold": {"both": "samples/gold_calibration_ece"},
}


class Both(NamedTuple):
  """N answers with the numbers of two judges.

  Attributes:
    judge: the numbers of the judge that a stage learns from.
    gold: the numbers of the gold judge.
  """

  judge: Assessed
  gold: Assessed

  def take(self, at: np.ndarray) -> "Both":
    """The answers at some indices."""
    return Both(self.judge.take(at), self.gold.take(at))


def assess_both(judge: Judge, gold: Judge, answers: Answers) -> Both:
  """Asks both judges for rewards and costs."""
  return Both(assess(judge, answers), assess(gold, answers))


def gold_names(gold: Judge | None) -> tuple[str, ...]:
  """Names that `gold_means` always gives, without their section."""
  if gold is None:
    return ()
  return ("gold_win_rate", *(f"gold_{name}_mean" for name in _scores(gold)))


def gold_rewards(gold: Assessed, prompt_ids: np.ndarray) -> dict[str, Mean]:
  """Mean reward and cost by the gold judge, as far as the judge has them."""
  means = {}
  for name in ("reward", "cost"):
    if getattr(gold, name) is not None:
      values = gold.numbers(name)
      told = ~np.isnan(values)
      means[f"gold_{name}_mean"] = clustered_mean(
        values[told], np.asarray(prompt_ids)[told]
      )
  return means


def gold_means(
  judge: Judge, gold: Judge, mine: Both, start: Both, prompt_ids: Any
) -> dict[str, Mean]:
  """How the policy does by the gold judge, and where the judges agree.

  Agreement and calibration are over pairs of different responses that both
  judges answer about; a judge's tie counts half.

  Args:
    judge: the judge that the policy learns from.
    gold: the gold judge.
    mine: N responses of the policy, those to a prompt adjacent.
    start: N responses of the policy's start, to the same prompts.
    prompt_ids: [N] number of each response's prompt.

  Returns:
    The rows `samples/gold_*` of the glossary, without the section. What no pair
    tells is left out: within a prompt there may be no two responses.
  """
  ids = np.asarray(prompt_ids)
  wins = compare(gold, mine.gold, start.gold)
  told = ~np.isnan(wins)
  means = {"gold_win_rate": clustered_share(wins[told], ids[told])}
  means |= gold_rewards(mine.gold, ids)
  if not gold.answers_all:
    means["gold_unanswered_share"] = clustered_share(~told, ids)
  own = compare(judge, mine.judge, start.judge)
  means |= _agreement(own, wins, _differ(mine, start), ids)
  first, second = neighbours(ids)
  if first.size:
    a, b = mine.take(first), mine.take(second)
    sides = compare(judge, a.judge, b.judge), compare(gold, a.gold, b.gold)
    means |= _agreement(*sides, _differ(a, b), ids[first], "_within_prompt")
  return means


def neighbours(prompt_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Indices of pairs of responses to one prompt; a response is in one pair."""
  first, second = [], []
  i = 0
  while i + 1 < len(prompt_ids):
    if prompt_ids[i] == prompt_ids[i + 1]:
      first.append(i)
      second.append(i + 1)
      i += 1
    i += 1
  return np.array(first, int), np.array(second, int)


def gold_sections(folder: pathlib.Path, settings: Settings) -> list[Section]:
  """A figure for each stage whose samples a gold judge measured."""
  sections = []
  for stage in settings.stages:
    rows = read_jsonl(folder / stage.name / "metrics.jsonl")
    panels: dict[str, Any] = {}
    for title, curves in PANELS.items():
      drawn = {
        label: tuple(zip(*((r["step"], r[key]) for r in rows if key in r)))
        for label, key in curves.items()
        if any(key in row for row in rows)
      }
      if drawn:
        panels[title] = drawn
    if not any("samples/gold_win_rate" in row for row in rows):
      continue
    path = plots.plot_panels(
      panels,
      folder / "plots" / f"{stage.name}_gold.png",
      looks=plots.run_colours(("judge", "gold", "both")),
    )
    caption = (
      "Held-out samples over steps, by the judge that the stage learns from and"
      " by the gold judge, which only measures. Where the first goes on rising"
      " and the second falls, the policy exploits the judge's errors."
      " Agreement: share of pairs of different responses that both judges rank"
      " alike. Calibration error: of the judge's preferences, by the gold"
      " judge's, on pairs with the start's responses."
    )
    title = f"{stage.name}: the judge and the gold judge"
    sections.append(Section(title, Figure(path, caption)))
  return sections


def _scores(gold: Judge) -> Sequence[str]:
  return [n for n in ("reward", "cost") if getattr(gold, n) is not None]


def _differ(a: Both, b: Both) -> np.ndarray:
  """[N] whether the texts of two sides differ."""
  sides = zip(a.judge.answers.texts, b.judge.answers.texts, strict=True)
  return np.array([x != y for x, y in sides], bool)


def _agreement(
  own: np.ndarray,
  gold: np.ndarray,
  differ: np.ndarray,
  ids: np.ndarray,
  within: str = "",
) -> dict[str, Mean]:
  """Agreement and calibration error, over pairs that differ; {} without."""
  at = differ & ~np.isnan(own) & ~np.isnan(gold)
  if not at.any():
    return {}
  p, q, groups = own[at], gold[at].astype(np.float64), ids[at]
  verdicts = 0.5 + 0.5 * np.sign(q - 0.5)
  alike = agreement(p.astype(np.float64) - 0.5, verdicts)
  pairs = from_probabilities(p, labels=q, groups=groups)
  ece = reliability(pairs.margins, labels=pairs.labels).ece
  return {
    f"gold_agreement{within}_share": clustered_share(alike, groups),
    f"gold_calibration{within}_ece": Mean(ece, np.nan, (np.nan, np.nan)),
  }
