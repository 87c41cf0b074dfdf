"""What `nlhf_table` claims: gaps in exploitability at equal KL.

The question is Munos et al.'s (2023, arXiv:2312.00886): are methods for general
preferences less exploitable than RLHF on a fitted reward?
"""

import itertools
from collections.abc import Mapping

import numpy as np

from experiments.papers import nlhf_results as results
from experiments.papers.claims import Claim
from experiments.papers.nlhf_ideal import Curve
from experiments.papers.nlhf_measures import Gap, gap_at_kl
from experiments.papers.nlhf_methods import METHODS
from experiments.papers.nlhf_results import Measured

MUNOS = "Munos et al. 2023, arXiv:2312.00886"
OURS = f"ours, on {MUNOS}"
JUDGES = {
  "cycle": "preferences in a circle",
  "gold": "transitive preferences",
  "learned": "judges learnt from readers' labels",
}
EXACT = ("cycle", "gold")  # judges that also measure
GAMES = [name for name, method in METHODS.items() if method.game]
RLHF = [name for name, method in METHODS.items() if method.fitted]
OTHERS = [*RLHF, *(n for n in METHODS if n not in GAMES and n not in RLHF)]
NO_WORSE = 0.02  # exploitability that counts as a tie

Found = Mapping[str, Measured]
Ideals = Mapping[str, Mapping[str, Curve]]


def gaps(got: Measured, most: float = np.inf) -> dict[tuple[str, str], Gap]:
  """(method of a game, other method) -> exploitability's gap at equal KL.

  Args:
    got: the policies.
    most: the highest KL that counts.
  """
  found = {}
  for name, other in itertools.product(GAMES, OTHERS):
    ours, theirs = got.frontier([name]), got.frontier([other])
    if len(ours[0]) > 1 and len(theirs[0]) > 1:
      gap = gap_at_kl(ours, theirs, most=most)
      if gap is not None:
        found[name, other] = gap
  return found


def _said(gap: Gap) -> str:
  return (
    f"{100 * gap.mean:+.1f} ± {196 * gap.error:.1f} % (KL {gap.low:.2f} to"
    f" {gap.high:.2f})"
  )


def gap_table(got: Measured) -> str:
  """Gaps of all methods for general preferences to the others, at equal KL."""
  lines = [
    "| method | " + " | ".join(METHODS[name].title for name in OTHERS) + " |",
    "| --- |" + " ---: |" * len(OTHERS),
  ]
  every = gaps(got)
  for name in GAMES:
    row = [every.get((name, other)) for other in OTHERS]
    if any(row):
      text = " | ".join("" if gap is None else _said(gap) for gap in row)
      lines.append(f"| {METHODS[name].title} | {text} |")
  return "\n".join(lines)


def ideal_claims(ideals: Ideals) -> list[Claim]:
  """What the methods would reach without errors of training."""
  rows = []
  for judge, curves in ideals.items():
    nash, rlhf = curves["Nash"], curves["RLHF"]
    low = max(nash.kl.min(), rlhf.kl.min())
    high = min(nash.kl.max(), rlhf.kl.max())
    where = np.linspace(low, high, 50)
    at = lambda c, where=where: np.interp(
      where, np.sort(c.kl), c.exploitability[np.argsort(c.kl)]
    )
    difference = at(nash) - at(rlhf)
    cyclic = judge == "cycle"
    rows.append(
      Claim(
        OURS,
        f"{JUDGES[judge]}, solved exactly on the SFT policy's samples: at equal"
        " KL the regularised Nash policy is "
        + (
          "less exploitable than RLHF on the fitted reward"
          if cyclic
          else f"no worse than RLHF, within {100 * NO_WORSE:.0f} %"
        ),
        f"{100 * difference.mean():+.1f} % on average over KL {low:.2f} to"
        f" {high:.2f}, {100 * difference[-1]:+.1f} % at the end; the least"
        f" exploitable of each: Nash {100 * nash.exploitability.min():.1f} %,"
        f" RLHF {100 * rlhf.exploitability.min():.1f} %",
        bool(difference.mean() < 0)
        if cyclic
        else bool(difference.max() < NO_WORSE),
      )
    )
  return rows


def trained_claims(found: Found) -> list[Claim]:
  """The question of the table, asked of trained policies."""
  rows = []
  for judge in EXACT:
    got = found[judge]
    every = {k: gap for k, gap in gaps(got).items() if k[1] in RLHF}
    if not every:
      continue
    cyclic = judge == "cycle"
    bound = 0.0 if cyclic else NO_WORSE
    better = [x.mean + 1.96 * x.error < bound for x in every.values()]
    worse = [x.mean - 1.96 * x.error > bound for x in every.values()]
    each = "; ".join(
      f"{METHODS[a].title} against {METHODS[b].title} {_said(gap)}"
      for (a, b), gap in every.items()
    )
    rows.append(
      Claim(
        MUNOS,
        f"{JUDGES[judge]}: at equal KL every method for general preferences is "
        + (
          "less exploitable than RLHF on the fitted reward"
          if cyclic
          else f"at most {100 * NO_WORSE:.0f} % more exploitable than RLHF"
        )
        + ", with 95 % confidence over posts",
        f"{sum(better)} of {len(better)} comparisons, {sum(worse)} the other"
        f" way. {each}",
        all(better),
        finding=True,
      )
    )
    least = min(got.policies, key=lambda p: p.exploited.by_post.mean())
    value = least.value
    rows.append(
      Claim(
        OURS,
        f"{JUDGES[judge]}: the least exploitable policy of all is one of a"
        " method for general preferences",
        f"{results.title_of(least.cell).replace(' | ', ', ')}, seed"
        f" {least.cell.seed}: {100 * value.mean:.1f} ±"
        f" {196 * value.error:.1f} % at KL {least.kl.mean:.2f}",
        least.cell.method in GAMES,
        finding=True,
      )
    )
  return rows


def reachable_claims(found: Found, ideals: Ideals) -> list[Claim]:
  """The question again, for KLs that exact Nash policies have."""
  most = float(ideals["cycle"]["Nash"].kl.max())
  every = {k: gap for k, gap in gaps(found["cycle"], most).items()
           if k[1] in RLHF}  # fmt: skip
  if not every:
    return []
  better = [x.mean + 1.96 * x.error < 0 for x in every.values()]
  worse = [x.mean - 1.96 * x.error > 0 for x in every.values()]
  means = [100 * x.mean for x in every.values()]
  return [
    Claim(
      MUNOS,
      f"{JUDGES['cycle']}: the same up to a KL of {most:.2f}, which no exact"
      " Nash policy of the strengths below exceeds (chosen after the results"
      " were seen)",
      f"{sum(better)} of {len(better)} comparisons, {sum(worse)} the other way;"
      f" {np.mean(means):+.1f} % on average, from {min(means):+.1f} to"
      f" {max(means):+.1f} %",
      all(better),
      finding=True,
    )
  ]


def panel_claims(found: Found) -> list[Claim]:
  """Which challengers find what."""
  rows = []
  for judge, got in found.items():
    if not got.responders:
      continue
    answered = [
      p for p in got.policies if p.cell.name.partition("/")[2] in got.responders
    ]
    names = [p.cell.name.partition("/")[2] for p in answered]
    learnt = np.array([got.responders[name].mean - 0.5 for name in names])
    fixed = np.array([p.by_kind["best type"].by_post.mean() for p in answered])
    rows.append(
      Claim(
        OURS,
        f"{JUDGES[judge]}: the best fixed type of summary wins more than a best"
        " response trained for 100 steps",
        f"against {len(answered)} policies {100 * fixed.mean():.1f} % on"
        f" average, trained responses {100 * learnt.mean():.1f} % (at most"
        f" {100 * (learnt - fixed).max():+.1f} % beyond the type)",
        bool((fixed > learnt).all()),
        finding=True,
      )
    )
  return rows
