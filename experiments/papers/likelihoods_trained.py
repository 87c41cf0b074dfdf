"""Likelihoods while a policy is aligned: what falls, where it goes, what warns.

python -m experiments.papers.likelihoods_trained --out=experiments/results

Four runs from the SFT policy of the TL;DR world (`policies`) are measured every
20 steps on the same held-out posts (`panel`). The claims are drop, degradation
and dispersion (Yan et al. 2024, arXiv:2406.07327; in closed form in
`likelihoods`), and likelihood over-optimisation (Shi et al. 2024,
arXiv:2410.11677).
"""

import sys

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.papers import policies
from experiments.papers.alignment import Course, align
from experiments.papers.claims import Claim, report
from experiments.papers.panel import make_panel
from jalign import diagnostics
from jalign.pages.style import PALETTE, new_figure

YAN = "Yan et al. 2024, arXiv:2406.07327"
SHI = "Shi et al. 2024, arXiv:2410.11677"
EVERY, RATE = 20, 1.5e-4
DPO, WEAK, FLEX, IPO = "DPO, beta 0.1", "DPO, beta 0.02", "Flex-DPO", "IPO"
# name -> loss, hyperparameters, updates of 64 pairs.
RUNS = {
  DPO: ("dpo", {"beta": 0.1}, 240),
  WEAK: ("dpo", {"beta": 0.02}, 400),
  FLEX: ("flex_dpo", {"beta_chosen": 0.1, "beta_rejected": 0.05}, 240),
  IPO: ("ipo", {"tau": 0.1}, 240),
}
# Panels of the figure: quantity -> its title.
PANELS = {
  "chosen": "log-prob of the chosen - reference's, nats",
  "rejected": "log-prob of the rejected - reference's, nats",
  "foreign": "of another post's summary - reference's, nats",
  "win_rate": "wins of samples over the reference's, %",
  "entropy": "entropy of the top 10, bits",
  "mass": "probability of the top 10, %",
}
COLUMNS = {
  "chosen": "chosen, nats",
  "rejected": "rejected, nats",
  "listed": "other summaries, nats",
  "foreign": "another post's, nats",
  "entropy": "entropy, bits",
  "renormalised": "renormalised, bits",
  "mass": "mass, %",
  "win_rate": "win rate, %",
  "gold": "gold reward",
  "grammatical": "grammatical, %",
  "true": "true clauses, %",
  "words": "words",
  "distinct": "distinct-2",
  "kl": "KL, nats",
}
FINE = ("entropy", "renormalised", "gold", "distinct")
PERCENT = ("mass", "win_rate", "win_error", "grammatical", "true")


def courses(start: policies.Trained) -> dict[str, Course]:
  """Trains every run, and measures it."""
  ref = start.score(start.params, "train")
  measure = make_panel(start)
  runs = {}
  for name, (loss, settings, steps) in RUNS.items():
    runs[name] = align(
      start,
      ref,
      loss,
      settings,
      steps=steps,
      learning_rate=RATE,
      every=EVERY,
      measure=measure,
    )
    print(f"[{name}] {steps} steps")
  return runs


def smooth(values: np.ndarray) -> np.ndarray:
  """Running means of three neighbours, of two at the ends."""
  padded = np.pad(values, 1, constant_values=np.nan)
  return np.nanmean([padded[:-2], padded[1:-1], padded[2:]], 0)


def peak(course: Course) -> int:
  """Index at which samples win most, on the smoothed curve."""
  return int(np.argmax(smooth(course.values["win_rate"])))


def worsens(course: Course) -> bool:
  """Whether samples end worse than at their peak, by three standard errors."""
  wins, error = course.values["win_rate"], course.values["win_error"]
  return bool(smooth(wins)[peak(course)] - smooth(wins)[-1] > 3 * error[-1])


def turn(course: Course, name: str, *, falls: bool) -> int | None:
  """Step where an indicator stops falling, or rising; None if it never does."""
  at = diagnostics.reversal(course.values[name], falls=falls)
  return None if at is None else int(course.steps[at])


def _listed(values: dict[str, str]) -> str:
  return "; ".join(f"{name}: {value}" for name, value in values.items())


def _step(at: int | None) -> str:
  return "never" if at is None else str(at)


def yan_claims(runs: dict[str, Course]) -> list[Claim]:
  """Claims on drop, degradation, dispersion, and the remedy."""
  last = lambda name, key: runs[name].values[key][-1]
  finding = lambda claim, ours, holds: Claim(
    YAN, claim, ours, bool(holds), True
  )
  plain = (DPO, WEAK)
  row = lambda name, *keys: ", ".join(f"{last(name, k):+.1f}" for k in keys)
  slower = np.greater(*(runs[n].values["rejected"][1:] for n in (FLEX, DPO)))
  valid = lambda name: 100 * runs[name].values["grammatical"]
  return [
    finding(
      "drop: under DPO the rejected's log-prob falls, and further than the"
      " chosen's",
      "chosen, rejected at the end: "
      + _listed({n: f"{row(n, 'chosen', 'rejected')} nats" for n in plain}),
      all(last(n, "rejected") < min(last(n, "chosen"), -1) for n in plain),
    ),
    finding(
      "degradation: the chosen falls too",
      _listed({n: f"{row(n, 'chosen')} nats" for n in runs})
      + "; still above its start at "
      + _listed(
        {
          n: f"{np.sum(runs[n].values['chosen'][1:] > 0)} of"
          f" {len(runs[n].steps) - 1} measurements"
          for n in runs
        }
      ),  # fmt: skip
      all(last(n, "chosen") < 0 for n in plain),
    ),
    finding(
      "dispersion: responses that no pair shows gain",
      "other summaries of the post, another post's: "
      + _listed({n: f"{row(n, 'listed', 'foreign')} nats" for n in runs}),
      any(max(last(n, "listed"), last(n, "foreign")) > 0 for n in plain),
    ),
    finding(
      "dispersion: samples leave what was shown (share that is grammatical)",
      "first, last: "
      + _listed({n: f"{valid(n)[0]:.0f}, {valid(n)[-1]:.0f} %" for n in runs}),
      all(valid(n)[-1] < valid(n)[0] - 3 for n in plain),
    ),
    finding(
      "a smaller beta for the rejected slows its fall",
      f"at {slower.sum()} of {slower.size} measurements higher than under DPO;"
      f" at the end {last(FLEX, 'rejected'):+.1f} against"
      f" {last(DPO, 'rejected'):+.1f} nats, the chosen"
      f" {last(FLEX, 'chosen'):+.1f} against {last(DPO, 'chosen'):+.1f}",
      slower.mean() > 0.8,
    ),
  ]


def shi_claims(runs: dict[str, Course]) -> list[Claim]:
  """Claims on likelihood over-optimisation and its two indicators."""
  finding = lambda claim, ours, holds: Claim(
    SHI, claim, ours, bool(holds), True
  )
  worse = [n for n in runs if worsens(runs[n])]
  margin = {n: c.values["chosen"] - c.values["rejected"]
            for n, c in runs.items()}  # fmt: skip
  wins = {n: 100 * smooth(c.values["win_rate"]) for n, c in runs.items()}
  top = {n: peak(c) for n, c in runs.items()}
  step = {n: int(runs[n].steps[i]) for n, i in top.items()}
  most = {n: int(c.steps[np.argmax(c.values["chosen"])])
          for n, c in runs.items()}  # fmt: skip
  starts = {n: turn(c, "entropy", falls=False) for n, c in runs.items()}
  leaks = {n: turn(c, "mass", falls=False) for n, c in runs.items()}
  ends = {n: turn(c, "entropy", falls=True) for n, c in runs.items()}
  before = lambda when: all(
    when[n] is not None and when[n] <= step[n] for n in worse
  )
  quiet = [n for n in runs if n not in worse]
  false = lambda when: [n for n in quiet if when[n] is not None]
  return [
    finding(
      "larger margins don't mean better samples",
      "win rate, margin at the peak and at the end: "
      + _listed(
        {
          n: f"{wins[n][top[n]]:.1f} to {wins[n][-1]:.1f} %,"
          f" {margin[n][top[n]]:.1f} to {margin[n][-1]:.1f} nats"
          for n in runs
        }
      ),
      worse and all(margin[n][-1] > margin[n][top[n]] for n in worse),
    ),
    finding(
      "the likeliest chosen responses don't go with the best samples",
      "step where the chosen is likeliest, step of the peak: "
      + _listed({n: f"{most[n]}, {step[n]}" for n in runs}),
      all(most[n] != step[n] for n in runs),
    ),
    finding(
      "the entropy of the top 10 falls before samples get worse",
      f"gets worse: {', '.join(worse) or 'none'}. Falls from step, least at,"
      " peak of samples at: "
      + _listed(
        {n: f"{_step(starts[n])}, {_step(ends[n])}, {step[n]}" for n in runs}
      ),
      worse and before(starts),
    ),
    finding(
      "the mass of the top 10 declines before samples get worse",
      "declines from step, peak of samples at: "
      + _listed({n: f"{_step(leaks[n])}, {step[n]}" for n in runs}),
      worse and before(leaks),
    ),
    finding(
      "the indicators are quiet in runs that don't get worse",
      f"those runs: {', '.join(quiet) or 'none'}; the entropy falls in"
      f" {len(false(starts))}, the mass declines in {len(false(leaks))}",
      quiet and not false(starts) and not false(leaks),
    ),
  ]


def table(runs: dict[str, Course]) -> str:
  """A Markdown table of each run at its start, its peak and its end."""
  header = ("run", "step", *COLUMNS.values())
  rows = [header, ("---",) * len(header)]
  for name, course in runs.items():
    for i in sorted({0, peak(course), len(course.steps) - 1}):
      cells = []
      for key in COLUMNS:
        value = course.values[key][i] * (100 if key in PERCENT else 1)
        cell = f"{value:.{2 if key in FINE else 1}f}"
        if key == "win_rate":
          cell += f" ± {196 * course.values['win_error'][i]:.1f}"
        cells.append(cell)
      rows.append((name, str(course.steps[i]), *cells))
  settings = _listed(
    {
      n: f"{loss} {', '.join(f'{k} {v:g}' for k, v in kw.items())}"
      for n, (loss, kw, _) in RUNS.items()
    }
  )
  note = (
    f"One seed; learning rate {RATE:g}, 64 pairs a step; {settings}. At the"
    " start, where samples win most (mean of three measurements), and at the"
    " end. Log-probs of responses are less the reference's. Win rates are over"
    " the reference's samples, under the population, 95 %."
  )
  lines = ["| " + " | ".join(row) + " |" for row in rows]
  return "\n".join([note, "", *lines])


def draw(runs: dict[str, Course]) -> Figure:
  """Draws six quantities over steps, with a dot where samples win most."""
  title = "Likelihoods and samples while a policy is aligned"
  figure = new_figure(12, 6.4, title)
  grid = figure.subplots(2, 3).ravel()
  for axes, (key, heading) in zip(grid, PANELS.items()):
    scale = 100 if key in PERCENT else 1
    for colour, course in zip(PALETTE, runs.values()):
      y = scale * course.values[key]
      axes.plot(course.steps, y, color=colour)
      i = peak(course)
      axes.plot(course.steps[i], y[i], "o", color=colour, markersize=6)
    axes.set_title(heading)
  grid[3].axhline(50, color="#888888", linewidth=1, linestyle=":")
  for axes in grid[3:]:
    axes.set_xlabel("steps")
  lines = [Line2D([], [], color=colour) for colour in PALETTE[: len(runs)]]
  lines.append(Line2D([], [], color="#555555", marker="o", linestyle=""))
  labels = [*runs, "where samples win most"]
  figure.legend(
    lines, labels, loc="outside lower center", ncols=5, frameon=False
  )
  return figure


if __name__ == "__main__":
  options = policies.flags(__doc__)
  runs = courses(policies.world())
  rows = [*yan_claims(runs), *shi_claims(runs)]
  sys.exit(
    report(
      "likelihoods_trained",
      "Likelihoods while a policy is aligned",
      rows,
      lambda: draw(runs),
      options.out,
      table(runs),
    )
  )
