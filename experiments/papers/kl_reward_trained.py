"""Reward against the square root of the KL, of policies trained online.

python -m experiments.papers.kl_reward_trained --out=experiments/results

From SFT in the TL;DR world, three algorithms are trained against the world's
gold reward, and measured every 5 updates. Beside them are best-of-n of the SFT
policy, and the tilted policies, which are the frontier that nothing can pass.
Both are sums over 256 responses to each of 100 held-out posts. KL is in nats
per response, d its square root; a gain is a mean gold reward minus the SFT
policy's on the same posts.

Finished work stays in runs/papers/kl_reward_trained and isn't done again. SFT
is resumed; an interrupted online run begins anew.
Cost: 13 minutes of CPU time, on 2 cores.
"""

import functools
import pathlib
import sys
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.papers import tldr_runs
from experiments.papers.claims import Claim, out_folder, report
from experiments.papers.frontiers import gao, line, tilted
from experiments.papers.sampling_laws import best_of_n, best_of_n_kl
from experiments.papers.sequences import kl
from jalign.pages.style import PALETTE, new_figure

BAI = "Bai et al. 2022, arXiv:2204.05862"
GAO = "Gao, Schulman, Hilton 2022, arXiv:2210.10760"
BEIRAMI = "Beirami et al. 2024, arXiv:2401.01879"
YANG = "Yang et al. 2024, arXiv:2404.01730"
FOLDER = pathlib.Path("runs/papers/kl_reward_trained")
SFT_STEPS, STEPS, EVERY, EACH, DRAWS = 1200, 120, 5, 4, 256
NS = (2, 4, 8, 16, 32, 64)
RUNS = {
  "online DPO": ("online_dpo", {"beta": 0.1}),
  "IPO-MD": ("ipo_md", {"tau": 0.03}),
  "Nash-MD": ("nash_md", {"tau": 0.01}),
}


class Curve(NamedTuple):
  """Measurements of N policies of one kind.

  Attributes:
    d: [N] sqrt(KL); a negative estimate of a KL counts as 0.
    gain: [N] gains.
    d_high: [N] sqrt of the KL plus three standard errors; d where it is exact.
    gain_error: [N] standard errors of the gains; 0 where they are exact.
  """

  d: np.ndarray
  gain: np.ndarray
  d_high: np.ndarray
  gain_error: np.ndarray


class Draws(NamedTuple):
  """The law of gold rewards under the SFT policy, estimated by its draws.

  Attributes:
    laws: for each prompt, the probabilities of its distinct rewards, and these
      rewards, ascending.
    mean: mean of all rewards.
    spread: root of the mean variance within a prompt.
  """

  laws: list[tuple[np.ndarray, np.ndarray]]
  mean: float
  spread: float

  def curve(self, laws_of) -> Curve:
    """Exact KL and gain of policies, as means over the prompts.

    Args:
      laws_of: `(p, r) -> policies [N, K]`, for a prompt with K rewards.
    """
    costs, gains = [], []
    for p, r in self.laws:
      laws = laws_of(p, r)
      costs.append([kl(q, p) for q in laws])
      gains.append([q @ r - p @ r for q in laws])
    d = np.sqrt(np.maximum(np.mean(costs, 0), 0))
    return Curve(d, np.mean(gains, 0), d, 0 * d)


def draws_of(rewards: np.ndarray) -> Draws:
  """Draws from rewards [prompts, draws]; equal to 9 digits is one level."""
  laws = []
  for row in np.round(rewards, 9):
    r, counts = np.unique(row, return_counts=True)
    laws.append((counts / counts.sum(), r))
  spread = float(np.sqrt(rewards.var(1).mean()))
  return Draws(laws, float(rewards.mean()), spread)


class Measured(NamedTuple):
  """Everything that was measured.

  Attributes:
    draws: draws of the SFT policy.
    runs: name -> points along training.
    best: best-of-n for `NS`.
    frontier: tilted policies of rising strength, the same for all prompts.
    ceiling: gain of the best summaries.
  """

  draws: Draws
  runs: dict[str, Curve]
  best: Curve
  frontier: Curve
  ceiling: float


@functools.cache
def measured() -> Measured:
  """Measures everything, and trains what isn't trained yet."""
  start = tldr_runs.sft(FOLDER / "sft", SFT_STEPS)
  draws = draws_of(tldr_runs.drawn_rewards(start, DRAWS, FOLDER))
  runs = {}
  for name, (algorithm, loss) in RUNS.items():
    stage = tldr_runs.online_stage(algorithm, STEPS, **loss)
    points = tldr_runs.trained(
      start, stage, FOLDER, every=EVERY, per_prompt=EACH
    )
    _, cost, cost_error, gold, gold_error = np.array(points).T
    root = lambda x: np.sqrt(np.maximum(x, 0))
    gain, high = gold - draws.mean, root(cost + 3 * cost_error)
    runs[name] = Curve(root(cost), gain, high, gold_error)
  strengths = np.concatenate([[0], np.geomspace(0.02, 20, 80)])
  return Measured(
    draws,
    runs,
    draws.curve(lambda p, r: [best_of_n(p, n) for n in NS]),
    draws.curve(lambda p, r: [tilted(p, r, x) for x in strengths]),
    tldr_runs.ceiling(start) - draws.mean,
  )


def _at(curve: Curve, d: np.ndarray) -> np.ndarray:
  return np.interp(d, curve.d, curve.gain)


def training_claims() -> list[Claim]:
  """Claims on the gain along training."""
  draws, runs, best, frontier, _ = measured()
  steep = np.sqrt(2) * draws.spread
  lines = {name: line(run.d, run.gain) for name, run in runs.items()}
  straight = []
  for name, (slope, fit) in lines.items():
    run = runs[name]
    left = np.sqrt(np.mean(((run.gain - slope * run.d) / run.gain_error) ** 2))
    straight.append(
      Claim(
        BAI,
        "during online training the reward's gain is roughly linear in"
        f" sqrt(KL), R^2 of a line through 0 at least 0.9: {name}",
        f"R^2 {fit:.3f}, slope {slope:.2f}, KL {run.d[0] ** 2:.2f} to"
        f" {run.d.max() ** 2:.2f}, residuals of {left:.1f} standard errors",
        fit >= 0.9,
        finding=True,
      )
    )
  bends = {name: gao(run.d, run.gain, "d") for name, run in runs.items()}
  bent = [
    f"{name} {alpha:.2f}, {beta:.2f} (R^2 {fit:.3f})"
    for name, (alpha, beta, _, fit) in bends.items()
  ]
  seen = (frontier.d > 0) & (frontier.d <= best.d[-1])
  front = gao(frontier.d[seen], frontier.gain[seen], "d")
  above, count, shares, beside = 0, 0, {}, {}
  for name, run in runs.items():
    limit = _at(frontier, run.d_high)
    above += int(np.sum(run.gain - 3 * run.gain_error > limit))
    count += len(run.d)
    inside = (run.d >= best.d[0]) & (run.d <= best.d[-1])
    shares[name] = float(np.mean(run.gain[-5:] / _at(frontier, run.d[-5:])))
    ratio = run.gain[inside] / _at(best, run.d[inside])
    beside[name] = (float(ratio.mean()), int(inside.sum()))
  ends = [f"{name} {100 * share:.0f} %" for name, share in shares.items()]
  ratios = [f"{k} {100 * x:.0f} % ({n} points)" for k, (x, n) in beside.items()]
  return [
    *straight,
    Claim(
      "ours, on Bai et al. 2022",
      "the slope is below sqrt(2) sd, that of the best policies at small KL;"
      " sd is the SFT policy's, within a prompt",
      f"sqrt(2) sd = {steep:.2f}; shares of it:"
      f" {', '.join(f'{slope / steep:.2f}' for slope, _ in lines.values())}",
      max(slope for slope, _ in lines.values()) < steep,
    ),
    Claim(
      "ours, on Gao et al. 2022",
      "the frontier bends down, as the reward has a ceiling, and training's"
      " gain up: of d (alpha - beta d), beta > 0 and beta < 0",
      f"alpha, beta: frontier {front[0]:.2f}, {front[1]:.2f} (R^2"
      f" {front[3]:.3f}); {'; '.join(bent)}",
      front[1] > 0 > max(beta for _, beta, _, _ in bends.values()),
    ),
    Claim(
      YANG,
      "no policy earns more than the tilted one of its KL",
      f"{above} of {count} points are above it by more than three standard"
      f" errors; the last five reach {', '.join(ends)} of it",
      above == 0,
    ),
    Claim(
      GAO,
      "for the same KL best-of-n gains more than training",
      f"training's gain over best-of-n's, n = {NS[0]} to {NS[-1]}:"
      f" {'; '.join(ratios)}",
      all(ratio < 1 and n > 0 for ratio, n in beside.values()),
    ),
  ]


def best_of_n_claims() -> list[Claim]:
  """Claims on best-of-n of the SFT policy."""
  draws, _, best, frontier, _ = measured()
  law = np.array([best_of_n_kl(n) for n in NS])
  over = law - best.d**2
  shares = best.gain / _at(frontier, best.d)
  row = lambda numbers: ", ".join(f"{x:.3f}" for x in numbers)
  named = f"n = {', '.join(map(str, NS))}"
  count = np.mean([len(p) for p, _ in draws.laws])
  return [
    Claim(
      BEIRAMI,
      "log n - (n - 1) / n overstates its KL where responses tie",
      f"{DRAWS} draws a prompt have {count:.0f} levels of reward; {named}:"
      f" {row(best.d**2)}, overstated by {row(over)}",
      bool((over > 0).all()),
    ),
    Claim(
      YANG,
      "best-of-n is nearly optimal: at least 0.9 of the frontier's gain",
      f"{named}: gains {row(best.gain)}, {row(shares)} of it",
      bool((shares > 0.9).all() and (shares < 1).all()),
    ),
  ]


def claims() -> list[Claim]:
  """All claims of this script."""
  return training_claims() + best_of_n_claims()


def _draw_gains(axes) -> None:
  _, runs, best, frontier, ceiling = measured()
  far = max(run.d.max() for run in runs.values())
  end = max(far, best.d[-1]) * 1.05
  shown = frontier.d <= end
  axes.plot(
    *(frontier.d[shown], frontier.gain[shown], "--"),
    color=PALETTE[6],
    label="tilted: the frontier",
  )
  axes.plot(
    best.d, best.gain, "D-", color=PALETTE[6], markersize=5, linewidth=1
  )
  axes.plot([], [], "D-", color=PALETTE[6], linewidth=1, label="best of n, SFT")
  for n, x, y in zip(NS, best.d, best.gain):
    axes.annotate(
      f"{n}",
      (x, y),
      xytext=(4, -12),
      textcoords="offset points",
      ha="center",
      color=PALETTE[6],
      fontsize=8,
    )
  for (name, run), colour in zip(runs.items(), PALETTE):
    slope, fit = line(run.d, run.gain)
    axes.errorbar(
      *(run.d, run.gain, 1.96 * run.gain_error),
      fmt="o",
      color=colour,
      linewidth=0.8,
      label=f"{name}, R² {fit:.2f}",
    )
    ends = np.array([0, run.d.max()])
    axes.plot(ends, slope * ends, color=colour, linewidth=1.2)
  axes.axhline(ceiling, color="#777777", linestyle=":", linewidth=1.2)
  axes.annotate(
    "best summaries",
    (0, ceiling),
    xytext=(2, 4),
    textcoords="offset points",
    color="#555555",
    fontsize=8,
  )
  axes.set(xlabel="d = sqrt(KL), KL in nats a response", ylabel="gain")
  axes.set(xlim=(0, end), ylim=(-0.1, 1.12 * ceiling))
  axes.set_title(
    "Gold reward over SFT's, 100 posts, 95 % intervals; lines through 0"
  )
  axes.legend(frameon=False, fontsize=8, loc="lower right")


def _draw_cost(axes) -> None:
  best = measured().best
  n = np.geomspace(1, NS[-1], 100)
  law = [best_of_n_kl(k) for k in n]
  axes.plot(n, law, color=PALETTE[6], label="log n - (n - 1) / n")
  label = "with the world's ties"
  axes.plot(NS, best.d**2, "D", color=PALETTE[1], markersize=5, label=label)
  axes.set(xscale="log", xlabel="n", ylabel="KL to SFT (nats)")
  axes.set_xticks([1, *NS], [1, *NS])
  axes.minorticks_off()
  axes.set_title("What best-of-n costs")
  axes.legend(frameon=False, fontsize=8)


def draw() -> Figure:
  """Draws gains over d, and the KL of best-of-n over n."""
  title = "The TL;DR world: reward against the square root of the KL"
  figure = new_figure(11.5, 4.8, title)
  gains, cost = figure.subplots(1, 2, width_ratios=(1.9, 1))
  _draw_gains(gains)
  _draw_cost(cost)
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "Reward against sqrt(KL), trained"
  sys.exit(report("kl_reward_trained", title, claims(), draw, out))
