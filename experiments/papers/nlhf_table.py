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
import pathlib
import sys
import time
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.papers import nlhf_cells as cells
from experiments.papers import nlhf_results as results
from experiments.papers.claims import report
from experiments.papers.nlhf_claims import (
  EXACT,
  JUDGES,
  Found,
  Ideals,
  gap_table,
  ideal_claims,
  panel_claims,
  reachable_claims,
  trained_claims,
)
from experiments.papers.nlhf_ideal import ideal
from experiments.papers.nlhf_methods import METHODS, order, train_missing
from jalign.files import write_whole
from jalign.pages.style import PALETTE, new_figure

MARKERS = "osD^v<>pPX*hd8"
LEARNED = (
  "RLHF learns from a Bradley-Terry reward model, the other methods from a"
  " general preference model (`learned_judges`). Both were trained on labels of"
  " the readers with equal weights, who measure the policies here."
)


def text(found: Found, ideals: Ideals, fits, missing: int, spent: float) -> str:
  """The tables below the claims."""
  count = sum(len(got.policies) + len(got.responders) for got in found.values())
  parts = [
    f"{count} policies of {cells.STEPS} steps (responders"
    f" {cells.RESPONSE_STEPS}), {spent / 3600:.1f} hours of training on one CPU"
    f" core; {missing} policies of the plan are missing. The budget was 6 hours"
    " of 2 cores.",
    "",
    "All start from one SFT policy and take 64 to 96 responses a step and the"
    " same optimiser: no momentum, learning rate 1e-3 with cosine decay; 5e-4"
    " for offline DPO, whose pairs are the SFT policy's own, and for PPO, which"
    f" takes {METHODS['ppo'].steps} steps of four updates. SPPO has no pull to"
    " the SFT policy, and eta is a step size. The policies are measured on"
    f" {cells.POSTS} held-out posts,"
    f" {cells.EACH} samples of each, with exact preferences of all pairs of"
    " samples. Intervals are 95 % over posts, for the policies at hand; where a"
    " strength has several seeds, their range is in brackets. Exploitability is"
    " a lower bound: the win rate of the best challenger less one half; the"
    " challenger is chosen on one half of the posts and plays on the other. The"
    " challengers are 12 archetypes as exact texts, the best of all types of"
    " summaries for posts with equally many salient facts, all other policies"
    " of the judge, and best responses trained against some of the policies"
    " (listed below). The column 'best summary of each post' bounds what a"
    " challenger gains that knows the policy's distribution for each post.",
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
      " KLs that both frontiers reach; negative is better for the row."
      + _of_seeds(100 * results.seed_spread(got)),
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


def _of_seeds(spread: float) -> str:
  if not spread:
    return " Each strength has one seed, which the intervals don't show."
  return (
    f" Seeds of one strength differ by up to {spread:.1f} %, which the"
    " intervals don't contain."
  )


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
  handles: dict[str, Any] = {}
  for ax in axes:
    handles |= dict(zip(*reversed(ax.get_legend_handles_labels())))
  figure.legend(
    list(handles.values()),
    list(handles),
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
    [
      *ideal_claims(ideals),
      *trained_claims(found),
      *reachable_claims(found, ideals),
      *panel_claims(found),
    ],
    lambda: draw(found, ideals),
    flags.out,
    text(found, ideals, bench.fits, missing, spent),
  )


if __name__ == "__main__":
  sys.exit(main())
