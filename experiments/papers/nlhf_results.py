"""Measures the cells of `nlhf_table` that exist, and writes them as tables."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.papers import nlhf_cells as cells
from experiments.papers import nlhf_measures as measures
from experiments.papers.nlhf_cells import Cell, Sampled
from experiments.papers.nlhf_judges import RATERS, of_texts
from experiments.papers.nlhf_measures import Estimate, Exploited, Types
from experiments.papers.nlhf_methods import METHODS, RESPONSE
from jalign.data import tldr_world as world
from jalign.data.tldr_world.language import Post
from jalign.data.tldr_world.summary import Attributes

# Challengers that are no policies of the table.
BEST_TYPE = "the best type"


class Policy(NamedTuple):
  """A cell, measured under the exact rater of its judge.

  Attributes:
    cell: what was trained.
    kl: KL to the SFT policy: the mean log-ratio of the policy's samples, nats.
    win: win rate over the SFT policy.
    exploited: the best challenger's wins.
    by_kind: kind of challengers -> the same of that kind alone.
    bounds: bounds on what the best summary of each post wins, less one half.
    gold: mean gold reward.
    grammatical: share of grammatical summaries.
    tokens: mean length.
    ids: [G, K] types of the samples.
  """

  cell: Cell
  kl: Estimate
  win: Estimate
  exploited: Exploited
  by_kind: Mapping[str, Exploited]
  bounds: tuple[float, float]
  gold: float
  grammatical: float
  tokens: float
  ids: np.ndarray

  @property
  def value(self) -> Estimate:
    """The exploitability, and its standard error over posts."""
    return measures.mean_of(self.exploited.by_post)


class Measured(NamedTuple):
  """All policies under one judge.

  Attributes:
    types: the types of summaries that occur, or could.
    sft: the SFT policy, as a cell without a method.
    policies: the policies.
    responders: target's name -> win rate of the responder trained against it.
  """

  types: Types
  sft: Policy
  policies: list[Policy]
  responders: Mapping[str, Estimate]

  def frontier(self, methods: Sequence[str]) -> tuple[list[float], np.ndarray]:
    """KLs and exploitability by post, means over the seeds of a strength."""
    groups: dict[tuple[str, float], list[Policy]] = {}
    for p in self.policies:
      if p.cell.method in methods:
        key = p.cell.method, p.cell.strength
        groups.setdefault(key, []).append(p)
    kl = [float(np.mean([p.kl.mean for p in g])) for g in groups.values()]
    values = [
      np.mean([p.exploited.by_post for p in g], 0) for g in groups.values()
    ]
    return kl, np.array(values)


def measured(
  judge: str,
  posts: Sequence[Post],
  sft: Sampled,
  found: Mapping[Cell, Sampled],
  rater: str | None = None,
) -> Measured:
  """Measures the policies of a judge.

  Args:
    judge: the judge of the cells.
    posts: the held-out posts.
    sft: samples of the SFT policy.
    found: the cells that exist, of all judges.
    rater: the rater that measures; by default the judge itself.
  """
  own = {cell: s for cell, s in found.items() if cell.judge == judge}
  salient = np.array([len(p.salient) for p in posts])
  fixed = {
    name: of_texts(posts, [[world.archetype(name, p)] for p in posts])
    for name in world.ARCHETYPES
  }
  every = [measures.rows_of(world.attainable(n)) for n in set(salient.tolist())]
  drawn = [s.attributes for s in own.values()]
  types = measures.types_of(
    RATERS[rater or judge], [*drawn, sft.attributes, *fixed.values(), *every]
  )
  ids = {cell: types.find(s.attributes) for cell, s in own.items()}
  of_fixed = {name: types.find(rows) for name, rows in fixed.items()}
  start = types.find(sft.attributes)
  wins = functools.partial(measures.wins_by_post, types.wins)

  def one(cell: Cell, sampled: Sampled, mine: np.ndarray) -> Policy:
    kinds = {
      "archetypes": {n: wins(at, mine) for n, at in of_fixed.items()},
      "best type": {BEST_TYPE: measures.best_types(types, salient, mine)},
      "policies": {
        other.name.partition("/")[2]: wins(at, mine)
        for other, at in ids.items()
        if other != cell and not other.target
      },
      "responders": {
        f"responder to {other.target}": wins(at, mine)
        for other, at in ids.items()
        if other.target
      },
    }
    joined = {n: x for kind in kinds.values() for n, x in kind.items()}
    low, high = measures.own_best(types, salient, mine)
    of = Attributes(*np.moveaxis(sampled.attributes, -1, 0))
    return Policy(
      cell,
      measures.mean_of(sampled.ratios.mean(1)),
      measures.mean_of(wins(mine, start)),
      measures.exploited(joined),
      {k: measures.exploited(x) for k, x in kinds.items() if x},
      (float(low.mean()) - 0.5, float(high.mean()) - 0.5),
      float(world.reward(of).mean()),
      float(of.grammatical.mean()),
      float(sampled.tokens.mean()),
      mine,
    )

  policies = [one(c, own[c], ids[c]) for c in own if not c.target]
  by_name = {c.name.partition("/")[2]: c for c in own}
  responders = {
    c.target: measures.mean_of(wins(ids[c], ids[by_name[c.target]]))
    for c in own
    if c.target in by_name
  }
  return Measured(types, one(Cell(judge, "SFT", 0), sft, start), policies,
                  responders)  # fmt: skip


def title_of(cell: Cell) -> str:
  """Name of a cell's method, with the value of its knob."""
  if cell.method not in METHODS:
    return cell.method
  method = METHODS[cell.method]
  return f"{method.title} | {method.knob} {cell.strength:g}"


def policy_table(got: Measured) -> str:
  """All policies of a judge, the seeds of a strength in one row."""
  lines = [
    "| method | strength | seeds | KL, nats | win rate over SFT, % |"
    " exploitability, % | best challenger | best summary of each post, % |"
    " gold reward | grammatical, % | tokens |",
    "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |"
    " ---: |",
  ]
  key = lambda p: (list(METHODS).index(p.cell.method), -p.cell.strength)
  ordered = sorted(got.policies, key=key)
  groups = [
    (title, list(rows))
    for title, rows in itertools.groupby(ordered, lambda p: title_of(p.cell))
  ]
  for title, rows in [("SFT | ", [got.sft]), *groups]:
    mean = lambda take, rows=rows: float(np.mean([take(p) for p in rows]))
    span = lambda take, rows=rows: _interval([take(p) for p in rows])
    low, high = (100 * mean(lambda p, i=i: p.bounds[i]) for i in (0, 1))
    challengers = dict.fromkeys(p.exploited.challenger for p in rows)
    lines.append(
      f"| {title} | {len(rows)} | {span(lambda p: p.kl)} |"
      f" {span(lambda p: scaled(p.win))} |"
      f" {span(lambda p: scaled(p.value))} |"
      f" {'; '.join(challengers)} | {low:.1f} to {high:.1f} |"
      f" {mean(lambda p: p.gold):.2f} |"
      f" {100 * mean(lambda p: p.grammatical):.1f} |"
      f" {mean(lambda p: p.tokens):.1f} |"
    )
  return "\n".join(lines)


def scaled(x: Estimate) -> Estimate:
  """The estimate in percent."""
  return Estimate(100 * x.mean, 100 * x.error)


def _interval(values: Sequence[Estimate]) -> str:
  """The mean over seeds, and half a 95 % interval over posts; see the page."""
  digits = 1 if values[0].mean > 5 or values[0].error > 0.05 else 2
  mean = np.mean([x.mean for x in values])
  half = 1.96 * np.mean([x.error for x in values])
  text = f"{mean:.{digits}f} ± {half:.{digits}f}"
  if len(values) > 1:
    low, high = min(values).mean, max(values).mean
    text += f" (seeds {low:.{digits}f} to {high:.{digits}f})"
  return text


def seed_spread(got: Measured) -> float:
  """The largest difference of exploitability between seeds of a strength."""
  groups: dict[tuple[str, float], list[float]] = {}
  for p in got.policies:
    key = p.cell.method, p.cell.strength
    groups.setdefault(key, []).append(p.value.mean)
  return max((max(x) - min(x) for x in groups.values()), default=0.0)


def win_matrix(got: Measured) -> str:
  """Wins of row over column, in percent, of the middle strengths.

  A number is the mean over all pairs of seeds, with half a 95 % interval over
  posts.
  """
  middle: dict[str, list[np.ndarray]] = {}
  for name, method in METHODS.items():
    for p in got.policies:
      if p.cell.method == name and p.cell.strength == method.strengths[0]:
        middle.setdefault(method.title, []).append(p.ids)
  middle = {"SFT": [got.sft.ids], **middle}
  names = list(middle)
  lines = [
    "| | " + " | ".join(names) + " |",
    "| --- |" + " ---: |" * len(names),
  ]
  for row in names:
    entries = []
    for column in names:
      by_post = np.mean(
        [
          measures.wins_by_post(got.types.wins, a, b)
          for a in middle[row]
          for b in middle[column]
        ],
        0,
      )
      mean, error = scaled(measures.mean_of(by_post))
      entries.append(
        "" if row == column else f"{mean:.1f} ± {1.96 * error:.1f}"
      )
    lines.append(f"| {row} | " + " | ".join(entries) + " |")
  return "\n".join(lines)


def rows_of(all_measured: Mapping[str, Measured]) -> str:
  """All cells as comma-separated values."""
  lines = [
    "judge,method,knob,strength,seed,kl,kl_error,win,win_error,exploitability,"
    "exploitability_error,challenger,best_low,best_high,gold,grammatical,tokens"
  ]
  for judge, got in all_measured.items():
    for p in got.policies:
      numbers = (*p.kl, *p.win, *p.value)
      after = (*p.bounds, p.gold, p.grammatical, p.tokens)
      text = lambda values: ",".join(f"{x:.5g}" for x in values)
      method = METHODS[p.cell.method]
      lines.append(
        f"{judge},{p.cell.method},{method.knob},{p.cell.strength:g},"
        f"{p.cell.seed},{text(numbers)},{p.exploited.challenger},{text(after)}"
      )
  return "\n".join(lines) + "\n"


def found(judges: Sequence[str]) -> dict[Cell, Sampled]:
  """The cells whose files exist."""
  held = {}
  for judge in judges:
    for path in sorted((cells.FOLDER / judge).glob("*.npz")):
      method, strength, seed, target = (*path.stem.split("-", 3), "")[:4]
      if method in METHODS or method == RESPONSE:
        cell = Cell(judge, method, float(strength), int(seed), target)
        held[cell] = cells.load(path)
  return held
