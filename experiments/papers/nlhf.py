"""Nash learning from human feedback in exact games: theorem 1 and more.

python -m experiments.papers.nlhf --out=runs/papers

Munos et al. 2023, arXiv:2312.00886. Everything is tabular and in float64.
"""

import sys
import warnings

import numpy as np
from matplotlib.figure import Figure

from experiments.papers.claims import Claim, out_folder, report
from jalign import games
from jalign.games import examples, solvers
from jalign.pages.style import PALETTE, new_figure

PAPER = "Munos et al. 2023, arXiv:2312.00886"
STEPS = 20_000
TAUS = (1.0, 0.1, 0.01)


def _theorem(tau):
  """(KL(Nash, iterate) of Nash-MD with the theorem's steps, these steps)."""
  game = examples.golden()
  start = np.exp([3.0, -3.0, 0.0])
  course = games.run(
    solvers.nash_md(),
    *game[:2],
    tau,
    steps=STEPS,
    step_size=solvers.decaying(tau),
    start=start / start.sum(),
  )
  return np.asarray(course.kl), 2 / (tau * (np.arange(STEPS) + 2))


def _constant_step():
  """(largest error of the predicted rest point, KL of the bias)."""
  game, worst, bias = examples.golden(), 0.0, {}
  for tau, step in ((0.1, 1.0), (0.1, 2.0), (1.0, 0.5)):
    course = games.run(
      solvers.nash_md(), *game[:2], tau, steps=2000, step_size=step
    )
    policy = np.asarray(course.policy)
    mixed = policy ** (1 - step * tau) * game.reference ** (step * tau)
    nash = games.regularized_nash(*game[:2], tau / (1 - step * tau))
    worst = max(worst, np.abs(mixed / mixed.sum() - np.asarray(nash)).max())
    bias[tau, step] = float(course.kl[-1])
  return worst, bias


def _spiral():
  """The course of the unregularised map on rock-paper-scissors."""
  game = examples.rock_paper_scissors(0.5)
  start = np.exp([0.1, -0.1, 0.0])
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the step is beyond its bound on purpose
    course = games.run(
      solvers.multiplicative_weights(),
      game.preferences,
      steps=4000,
      step_size=0.1,
      start=start / start.sum(),
    )
  return type(course)(*map(np.asarray, course))


def claims() -> list[Claim]:
  """Claims of the paper, and what we measure."""
  rows = []
  add = lambda claim, ours, holds: rows.append(
    Claim(PAPER, claim, ours, bool(holds))
  )
  over, beyond, ends = 0, 0, []
  for tau in TAUS:
    kl, step = _theorem(tau)
    over += (kl[1:] > (1 - step * tau) * kl[:-1] + 2 * step**2 + 1e-13).sum()
    t = np.arange(1, STEPS + 1)
    beyond += (kl[1:] > 8 / (tau**2 * (t + 1))).sum()
    ends.append(f"{kl[-1]:.1e}")
  add(
    "KL(Nash, next) <= (1 - eta tau) KL(Nash, now) + 2 eta^2 at every step",
    f"{over} violations in {STEPS:,} steps at each tau of {TAUS}",
    over == 0,
  )
  add(
    "KL(Nash, iterate T) <= 8 / (tau^2 (T + 1))",
    f"{beyond} violations; at the end {', '.join(ends)} (measured slope T^-2)",
    beyond == 0,
  )
  worst, bias = _constant_step()
  add(
    "with a constant step the mixture rests at the Nash policy of"
    " tau / (1 - eta tau), so that the iterate is biased",
    f"to {worst:.0e}; KL(Nash, iterate) {bias[0.1, 1.0]:.1e} (tau 0.1, step 1)",
    worst < 1e-12 and min(bias.values()) > 1e-6,
  )
  spiral = _spiral()
  add(
    "without a reference the last iterate spirals out, the average converges",
    f"KL {float(spiral.kl[0]):.4f} to {float(spiral.kl[-1]):.4f}; the best"
    f" response gains {float(spiral.average_exploitability[0]):.4f}, then"
    f" {float(spiral.average_exploitability[-1]):.5f} over the average",
    spiral.kl[-1] > spiral.kl[0]
    and spiral.average_exploitability[-1]
    < spiral.average_exploitability[0] / 10,
  )
  game = examples.golden()
  plain = np.asarray(games.nash(game.preferences))
  add(
    "a cycle's Nash policy is proportional to the margins opposite (ours)",
    f"{plain.round(12).tolist()} for margins 0.4, 0.3, 0.3",
    np.abs(plain - (0.3, 0.3, 0.4)).max() < 1e-12,
  )
  dice = np.asarray(games.nash(examples.dice().preferences))
  add(
    "three dice that beat each other 5/9 have the uniform Nash policy (app. C)",
    f"within {np.abs(dice - 1 / 3).max():.0e}",
    np.abs(dice - 1 / 3).max() < 1e-12,
  )
  gaps, tops = [], []
  for eps in (-0.02, 0.02):
    preferences = examples.rater_types(eps).preferences
    theory = (1 / 3 + eps / 2, 1 / 3 + eps / 2, 1 / 3 - eps)
    gaps.append(np.abs(np.asarray(games.nash(preferences)) - theory).max())
    tops.append(
      int(np.argmax(np.asarray(games.bradley_terry_fit(preferences))))
    )
  add(
    "with three types of raters the Nash policy moves smoothly with their"
    " shares, the best reward jumps from one action to another (sec. 3.2)",
    f"Nash within {max(gaps):.0e} of (1/3 + e/2, 1/3 + e/2, 1/3 - e); best"
    f" reward y{tops[0] + 1} at e = -0.02, y{tops[1] + 1} at e = 0.02",
    max(gaps) < 1e-12 and tops[0] != tops[1],
  )
  elo = examples.elo().preferences
  wins = np.array([0.0, 0, 1]) @ elo @ np.array([2 / 3, 1 / 3, 0])
  add(
    "on pi(y1) = 2 pi(y2) the best reward loses to the best win rate, which"
    " wins 50/99 (app. A)",
    f"{wins:.15f}, 50/99 = {50 / 99:.15f}",
    abs(wins - 50 / 99) < 1e-15,
  )
  reward = np.asarray(games.bradley_terry_fit(game.preferences))
  rlhf = game.reference * np.exp(reward / 0.1)
  rlhf /= rlhf.sum()
  nash = np.asarray(games.regularized_nash(*game[:2], 0.1))
  exploitable = float(games.exploitability(rlhf, *game[:2], 0.1))
  share = 100 * nash @ game.preferences @ rlhf
  add(
    "RLHF on a fitted reward is exploitable where preferences are cyclic",
    f"{exploitable:.4f} against 0; the Nash policy beats it {share:.1f} %",
    exploitable > 0.1 and share > 50,
  )
  return rows


def draw() -> Figure:
  """Draws KL of Nash-MD under its bound, and the last and average iterates."""
  figure = new_figure(10, 4, "Nash-MD keeps far below its bound")
  left, right = figure.subplots(1, 2)
  t = np.arange(1, STEPS + 1)
  for tau, colour in zip(TAUS, PALETTE):
    left.loglog(t, _theorem(tau)[0][1:], color=colour, label=f"tau {tau:g}")
    left.loglog(t, 8 / (tau**2 * (t + 1)), ":", color=colour)
  left.set_title("dotted: 8 / (tau² (T + 1))")
  left.set_xlabel("steps")
  left.set_ylabel("KL(Nash, policy), nats")
  spiral = _spiral()
  right.semilogy(spiral.exploitability, color=PALETTE[1], label="last iterate")
  right.semilogy(
    spiral.average_exploitability, color=PALETTE[0], label="average"
  )
  right.set_title("Without a reference: rock-paper-scissors, step 0.1")
  right.set_xlabel("steps")
  right.set_ylabel("exploitability")
  for axes in (left, right):
    axes.legend(frameon=False)
    axes.yaxis.set_major_formatter("{x:g}")
  left.xaxis.set_major_formatter("{x:g}")
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "Nash learning from human feedback, in exact games"
  sys.exit(report("nlhf", title, claims(), draw, out))
