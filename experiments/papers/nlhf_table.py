"""Nash and IPO methods beside RLHF: exploitability at equal KL, in one table.

python -m experiments.papers.nlhf_table --out=experiments/results

From one SFT policy in the TL;DR world, each method is trained at several
strengths of the pull to that policy, on preferences that run in a circle and on
transitive ones. Policies are compared on held-out posts, by exact preferences.
The question is whether, at matched KL and with intransitive preferences,
methods for general preferences (Munos et al. 2023, arXiv:2312.00886) are less
exploitable than RLHF on a fitted reward, and no worse where preferences are
transitive.

Finished policies stay in runs/papers/nlhf_table and aren't trained again: the
program can be stopped at any time, and the report is made of the policies that
there are. With --minutes=0 none is trained.
Cost: about 40 seconds a policy on one core.
"""

import argparse
import itertools
import pathlib
import sys
import time
from collections.abc import Mapping

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.papers import nlhf_cells as cells
from experiments.papers import nlhf_results as results
from experiments.papers.claims import Claim, report
from experiments.papers.nlhf_ideal import Curve, ideal
from experiments.papers.nlhf_measures import Gap, gap_at_kl
from experiments.papers.nlhf_methods import METHODS, order, train_missing
from experiments.papers.nlhf_results import Measured
from jalign.files import write_whole
from jalign.pages.style import PALETTE, new_figure

OURS, MUNOS = (
  "ours, on Munos et al. 2023",
  "Munos et al. 2023, arXiv:2312.00886",
)
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
MARKERS = "osD^v<>pPX*hd"

LEARNED = (
  "RLHF learns from a Bradley-Terry reward model, the other methods from a"
  " general preference model (`learned_judges`). Both were trained on labels of"
  " the readers with equal weights, who measure the policies here."
)

Found = Mapping[str, Measured]
Ideals = Mapping[str, Mapping[str, Curve]]


def gaps(got: Measured) -> dict[tuple[str, str], Gap]:
  """(method of a game, other method) -> exploitability's gap at equal KL."""
  found = {}
  for name, other in itertools.product(GAMES, OTHERS):
    ours, theirs = got.frontier([name]), got.frontier([other])
    if len(ours[0]) > 1 and len(theirs[0]) > 1:
      gap = gap_at_kl(ours, theirs)
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


def text(found: Found, ideals: Ideals, fits, missing: int, spent: float) -> str:
  """The tables below the claims."""
  count = sum(len(got.policies) + len(got.responders) for got in found.values())
  parts = [
    f"{count} policies of {cells.STEPS} steps (responders"
    f" {cells.RESPONSE_STEPS}), {spent / 3600:.1f} hours of training on one CPU"
    f" core; {missing} policies of the plan are missing. The budget was 6 hours"
    " of 2 cores.",
    "",
    f"All start from one SFT policy, take 64 to 96 responses a step and the"
    " same optimiser (no momentum, learning rate 1e-3 with cosine decay, 5e-4"
    f" offline), and are measured on {cells.POSTS} held-out posts,"
    f" {cells.EACH} samples of each, with exact preferences of all pairs of"
    " samples. Intervals are 95 % over posts, for the policies at hand; where a"
    " strength has several seeds, their range is in brackets. Exploitability is"
    " a lower bound: one half less than the win rate of the best challenger,"
    " which is chosen on one half of the posts and plays on the other. The"
    " challengers are 12 archetypes as exact texts, the best of all types of"
    " summaries for posts with equally many salient facts, all other policies"
    " of the judge, and best responses trained against one policy of each"
    " method. The column 'best summary of each post' bounds what a challenger"
    " gains that knows the policy's distribution for each post.",
    "",
  ]
  for judge, got in found.items():
    if not got.policies:
      continue
    fit = fits[judge]
    title = JUDGES[judge]
    parts += [f"## {title[0].upper()}{title[1:]}", ""]
    if judge not in EXACT:
      parts += [LEARNED, "", results.policy_table(got), ""]
      continue
    parts += [
      f"The fitted reward has a cross-entropy of {fit.nll:.4f} nats, where the"
      f" judge's own entropy is {fit.floor:.4f}; its largest error of a"
      f" probability is {fit.error:.2f}.",
      "",
      results.policy_table(got),
      "",
      "Exploitability less that of the column at equal KL, on average over the"
      " KLs that both frontiers reach; negative is better for the row.",
      "",
      gap_table(got),
      "",
      "Wins of rows over columns at the middle strengths, in percent.",
      "",
      results.win_matrix(got),
      "",
    ]
    if got.responders:
      parts += ["Best responses trained against one policy win (%):", ""]
      parts += [
        f"* against {name}: {100 * x.mean:.1f} ± {196 * x.error:.1f}"
        for name, x in got.responders.items()
      ]
      parts.append("")
    parts += ["Exact solutions on the SFT policy's samples:", ""]
    parts += ["| solution | KL, nats | win rate, % | exploitability, % |"]
    parts += ["| --- | ---: | ---: | ---: |"]
    for name, curve in ideals[judge].items():
      parts += [
        f"| {name} | {kl:.2f} | {100 * win:.1f} | {100 * value:.1f} |"
        for kl, win, value in zip(*curve)
      ]
    parts.append("")
  return "\n".join(parts)


def draw(found: Found, ideals: Ideals) -> Figure:
  """Exploitability over KL, a panel for each judge."""
  figure = new_figure(11, 5.6, "How much a best challenger wins, over the KL")
  axes = figure.subplots(1, len(EXACT))
  names = list(METHODS)
  for ax, judge in zip(axes, EXACT):
    got = found[judge]
    for name, style in (("RLHF", "--"), ("Nash", "-")):
      curve = ideals[judge][name]
      ax.plot(
        curve.kl,
        100 * curve.exploitability,
        style,
        color="#999999",
        lw=1.2,
        label=f"{name}, exact",
      )
    for i, name in enumerate(names):
      kl, values = got.frontier([name])
      if not kl:
        continue
      at = np.argsort(kl)
      method = METHODS[name]
      colour = PALETTE[i % len(PALETTE)]
      ax.plot(
        np.array(kl)[at],
        100 * values.mean(1)[at],
        "-" if method.game else "--",
        color=colour,
        marker=MARKERS[i % len(MARKERS)],
        mfc=colour if method.game else "white",
        lw=1,
        ms=5,
        label=method.title,
      )
    ax.plot(0, 100 * got.sft.exploited.by_post.mean(), "k*", ms=9, label="SFT")
    ax.set_title(JUDGES[judge])
    ax.set_xlabel("KL to SFT (nats a response)")
    ax.set_ylim(bottom=0)
  axes[0].set_ylabel("exploitability: best challenger's wins - 50 (%)")
  handles = {}
  for ax in axes:
    handles |= dict(zip(*reversed(ax.get_legend_handles_labels())))
  figure.legend(
    handles.values(),
    handles.keys(),
    loc="outside lower center",
    ncols=6,
    fontsize=8,
    title="dashed, open: RLHF and DPO; solid, filled: general preferences",
  )
  return figure


def main(argv: list[str] | None = None) -> int:
  """Trains what is missing, for so many minutes, and writes the report."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument("--out", required=True, type=pathlib.Path)
  parser.add_argument(
    "--minutes", type=float, default=360, help="time to train missing policies"
  )
  flags = parser.parse_args(argv)
  jax.config.update("jax_compilation_cache_dir", str(cells.FOLDER / "compiled"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
  bench = cells.Bench()
  train_missing(bench, time.monotonic() + 60 * flags.minutes)

  held = results.found(list(JUDGES))
  missing = sum(cell not in held for cell in order())
  spent = sum(s.seconds for s in held.values())
  found = {
    judge: results.measured(judge, bench.posts, bench.sft, held)
    for judge in JUDGES
  }
  ideals = {judge: ideal(bench, judge) for judge in EXACT}
  write_whole(flags.out / "nlhf_table.csv", results.rows_of(found).encode())
  return report(
    "nlhf_table",
    "Nash and IPO methods beside RLHF",
    [*ideal_claims(ideals), *trained_claims(found), *panel_claims(found)],
    lambda: draw(found, ideals),
    flags.out,
    text(found, ideals, bench.fits, missing, spent),
  )


if __name__ == "__main__":
  sys.exit(main())
