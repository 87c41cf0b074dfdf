"""Reward against the square root of the KL: best-of-n, tilting, a proxy.

python -m experiments.papers.kl_reward --out=runs/papers

All expectations are sums over finite sets. Sets that stand for a continuous law
are cells, evenly spaced in the log-odds of the rank. KL is KL(policy || base),
in nats, d its square root, and a gain is a mean reward minus the base's.
Cost: 10 s on a CPU core.
"""

import functools
import sys

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from experiments.papers.claims import Claim, out_folder, report
from experiments.papers.frontiers import (
  cells,
  gao,
  line,
  moments,
  tilted,
  tilted_to,
)
from experiments.papers.proxies import METHODS, path, proxy_claims, worlds
from experiments.papers.sampling_laws import best_of_n, best_of_n_kl
from experiments.papers.sequences import kl
from jalign.pages.style import PALETTE, new_figure

BAI = "ours, on Bai et al. 2022, arXiv:2204.05862"
GAO = "Gao, Schulman, Hilton 2022, arXiv:2210.10760"
BEIRAMI = "Beirami et al. 2024, arXiv:2401.01879"
YANG = "Yang et al. 2024, arXiv:2404.01730"
NS = (2, 4, 16, 64, 1024)
KLS = (0.5, 2.0, 8.0)  # nats
# [7] probabilities of N(0, 1) rewards that are rounded to -3, ..., 3.
LEVELS = np.diff(stats.norm.cdf(np.arange(-2.5, 3)), prepend=0, append=1)


@functools.cache
def reward_laws() -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Name -> ([K] probabilities, [K] rewards, ascending)."""
  p, up = cells(stats.expon(), 2001, 1e-60)
  return {
    "Gaussian": cells(stats.norm(), 2001, 1e-60),
    "uniform": cells(stats.uniform(), 2001, 1e-60),
    "exponential": (p, up),
    "minus exponential": (p[::-1], -up[::-1]),
  }


def counted(p: np.ndarray, r: np.ndarray, n: int) -> tuple[float, float]:
  """KL and mean reward of best-of-n, by counting all K^n outcomes of n draws.

  Args:
    p: [K] probabilities.
    r: [K] rewards, ascending.
    n: number of draws.
  """
  draws = np.indices((len(p),) * n).reshape(n, -1)
  q = np.bincount(draws.max(0), p[draws].prod(0), len(p))
  return kl(q, p), float(q @ r)


def best_of_n_claims() -> list[Claim]:
  """Claims on best-of-n's KL and reward, without and with ties."""
  rng = np.random.default_rng(0)
  p, r = rng.dirichlet(np.ones(6)), np.sort(rng.normal(size=6))
  q, tally = best_of_n(p, 6), counted(p, r, 6)
  off = max(abs(kl(q, p) - tally[0]), abs(q @ r - tally[1]))
  n, sizes, gaps, ratios = 16, (64, 1024, 16384), [], []
  for size in sizes:
    p = rng.dirichlet(np.ones(size))
    rank = np.cumsum(p) - p / 2
    gaps.append(best_of_n_kl(n) - kl(best_of_n(p, n), p))
    lead = n * (n - 1) ** 2 / 24 * np.sum(p**3 * rank ** (n - 3))
    ratios.append(gaps[-1] / lead)
  tied = LEVELS
  over = [best_of_n_kl(k) - kl(best_of_n(tied, k), tied) for k in (4, 64, 1024)]
  last, cap = kl(best_of_n(tied, 10**5), tied), -np.log(tied[-1])
  return [
    Claim(
      GAO,
      "best of n has the law F^n - F_-^n whatever the probabilities: its KL and"
      " its reward",
      f"6 responses, n = 6: all 6^6 outcomes within {off:.1g}",
      off < 1e-12,
    ),
    Claim(
      BEIRAMI,
      "log n - (n - 1) / n bounds its KL from above; the gap closes as"
      " responses become many and rare",
      f"n = {n}, {', '.join(map(str, sizes))} responses without ties:"
      f" {', '.join(f'{x:.2g}' for x in gaps)} nats",
      gaps[0] > gaps[1] > gaps[2] > 0,
    ),
    Claim(
      "ours, on Beirami et al. 2024",
      "the gap is n (n - 1)^2 / 24 sum p^3 u^(n - 3) to leading order, u the"
      " share that is worse",
      f"{', '.join(f'{x:.4f}' for x in ratios)} of it",
      abs(ratios[1] - 1) < 1e-2 and abs(ratios[2] - 1) < 1e-3,
    ),
    Claim(
      "ours, on Beirami et al. 2024",
      "with ties the formula overstates without bound: the KL ends at"
      " -log P(the best level)",
      "N(0, 1) rewards rounded to -3, ..., 3, n = 4, 64, 1024:"
      f" {', '.join(f'{x:.3f}' for x in over)} nats too many; n = 10^5:"
      f" {last:.6f}, -log P {cap:.6f}",
      0 < over[0] < over[1] < over[2] and abs(last - cap) < 1e-9,
    ),
  ]


def expansion(sign: float = 1.0) -> list[float]:
  """What two orders leave of tilting's gain / (sd s), with s = sqrt(2 KL).

  Let K be the log of E exp(x r). A tilt of strength x gains K'(x) - K'(0) and
  costs x K'(x) - K(x), so that gain = sd s (1 + skewness s / 6 + O(s^2)).

  Args:
    sign: sign of the skewness; -1 is a deliberate mistake, for tests.

  Returns:
    The remainders divided by s^2, for strengths 0.1, 0.01, 0.001.
  """
  rng = np.random.default_rng(1)
  p, r = rng.dirichlet(np.ones(50)), rng.exponential(size=50)
  mean, spread, skewness = moments(p, r)
  left = []
  for strength in (1e-1, 1e-2, 1e-3):
    change = tilted(p, r, strength) / p - 1
    # Summing terms of second order, the KL loses no digits.
    cost = p @ ((1 + change) * np.log1p(change) - change)
    s = np.sqrt(2 * cost)
    gain = p @ (change * (r - mean)) / (spread * s)
    left.append(float((gain - 1 - sign * skewness * s / 6) / s**2))
  return left


def gaussian_slopes() -> np.ndarray:
  """Tilting's gain / (sd d) at strengths up to 4, which costs 8 nats.

  The nodes of Gauss-Hermite quadrature are a finite set with a Gaussian's
  moments.
  """
  r, p = np.polynomial.hermite_e.hermegauss(100)
  p = p / p.sum()
  laws = [tilted(p, r, x) for x in np.linspace(0.1, 4, 40)]
  return np.array([q @ r / np.sqrt(kl(q, p)) for q in laws])


@functools.cache
def frontier(name: str, most: float) -> tuple[np.ndarray, np.ndarray]:
  """(d [40], evenly spaced up to a KL; tilting's gains [40] in sds)."""
  p, r = reward_laws()[name]
  mean, spread, _ = moments(p, r)
  d = np.linspace(0, np.sqrt(most), 41)[1:]
  return d, np.array([tilted_to(p, r, x**2) @ r - mean for x in d]) / spread


def tilted_claims(sign: float = 1.0) -> list[Claim]:
  """Gain and sqrt(KL) of base exp(r / beta) / Z; -1 is a mistake, for tests."""
  left, slopes = expansion(sign), gaussian_slopes()
  off = np.abs(slopes / np.sqrt(2) - 1).max()
  straight = {
    name: [line(*frontier(name, most))[1] for most in KLS]
    for name in reward_laws()
  }
  rows = [
    f"{k} " + ", ".join(f"{x:.3f}" for x in v) for k, v in straight.items()
  ]
  ends = [row[-1] for row in straight.values()]
  bent = {
    name: (gao(*frontier(name, 0.005), "d")[1], -moments(*law)[2] / 3)
    for name, law in reward_laws().items()
  }
  bends = [f"{k} {a:.3f} ({b:.3f})" for k, (a, b) in bent.items()]
  return [
    Claim(
      BAI,
      "tilting gains sd sqrt(2 KL) (1 + skewness sqrt(2 KL) / 6 + O(KL)):"
      " linear in sqrt(KL) to first order, for any rewards",
      "50 responses, strengths 0.1, 0.01, 0.001: the rest is"
      f" {', '.join(f'{x:.4f}' for x in left)} times 2 KL",
      abs(left[2] / left[1] - 1) < 0.02,
    ),
    Claim(
      BAI,
      "Gaussian rewards: linear at every KL, with slope sqrt(2) sd",
      f"up to 8 nats within {off:.1g}",
      off < 1e-12,
    ),
    Claim(
      BAI,
      "other rewards are roughly linear (R^2 > 0.97 of a line through 0) up to"
      " half a nat; at 8 nats those with a ceiling aren't",
      f"up to {', '.join(f'{x:g}' for x in KLS)} nats: {'; '.join(rows)}",
      min(row[0] for row in straight.values()) > 0.97
      and min(ends[0], ends[2]) > 0.9
      and max(ends[1], ends[3]) < 0.6,
    ),
    Claim(
      "ours, on Gao et al. 2022",
      "d (alpha - beta d) is this expansion, beta = -sd skewness / 3, even"
      " where the reward is the true one",
      f"beta / sd fitted up to 0.005 nats: {'; '.join(bends)}",
      max(abs(a - b) for a, b in bent.values()) < 0.02,
    ),
  ]


def share(name: str, n: float) -> float:
  """Best-of-n's gain as a share of tilting's at the same KL."""
  p, r = reward_laws()[name]
  q, mean = best_of_n(p, n), p @ r
  return float((q @ r - mean) / (tilted_to(p, r, kl(q, p)) @ r - mean))


def optimality_claims() -> list[Claim]:
  """Claims on best-of-n beside the best policy of the same KL."""
  rng = np.random.default_rng(2)
  excess = []
  for _ in range(40):
    size = int(rng.integers(3, 200))
    p, r = rng.dirichlet(np.ones(size)), np.sort(rng.standard_t(3, size))
    for n in (2, 3, 5, 9, 17, 65, 257):
      q = best_of_n(p, n)
      cost = kl(q, p)
      if cost < -np.log(p[-1]) - 1e-6:
        excess.append((tilted_to(p, r, cost) - q) @ r / np.ptp(r))
  off = []
  for count in (501, 2001):  # the density's steps are of second order
    p, r = cells(stats.expon(), count, 1e-60)
    p, r = p[::-1], -r[::-1]
    gaps = [np.abs(tilted(p, r, n - 1.0) - best_of_n(p, n)).sum() for n in NS]
    off.append(max(gaps) / 2)
  table = {name: [share(name, n) for n in NS] for name in reward_laws()}
  rows = [f"{k} " + ", ".join(f"{x:.3f}" for x in v) for k, v in table.items()]
  small = {}
  for name, (p, r) in reward_laws().items():
    rank = np.log(np.cumsum(p) - p / 2)
    weighted = np.cov(np.stack([r, rank]), aweights=p, ddof=0)
    expected = weighted[0, 1] / np.sqrt(weighted[0, 0] * weighted[1, 1])
    small[name] = (share(name, 1 + 1e-4), float(expected))
  starts = [f"{k} {a:.4f} ({b:.4f})" for k, (a, b) in small.items()]
  return [
    Claim(
      YANG,
      "no policy of best-of-n's KL earns more than the tilted one",
      f"{len(excess)} pairs of 40 random sets and n: tilting earns more by"
      f" {min(excess):.2g} to {max(excess):.2g} of the range",
      min(excess) > -1e-12 and max(excess) > 0.01,
    ),
    Claim(
      "ours, on Yang et al. 2024",
      "best-of-n is within 10 % of it for Gaussian rewards and closer under a"
      " ceiling, but a long upper tail costs up to a third",
      f"share of tilting's gain, n = {', '.join(map(str, NS))}:"
      f" {'; '.join(rows)}",
      min(table["Gaussian"] + table["uniform"]) > 0.9
      and 0.65 < min(table["exponential"]) < 0.7,
    ),
    Claim(
      "ours, on Yang et al. 2024",
      "as n -> 1 the share is the correlation of r with the log of its rank",
      "; ".join(starts),
      max(abs(a - b) for a, b in small.values()) < 1e-3,
    ),
    Claim(
      "ours, on Yang et al. 2024",
      "where minus the reward is exponential, best-of-n is the tilted policy"
      " of strength n - 1",
      "total variation at most"
      f" {off[0]:.2g}, {off[1]:.2g} with 501, 2001 cells",
      abs(off[0] / off[1] - 16) < 1 and off[1] < 1e-3,
    ),
  ]


PARTS = (best_of_n_claims, tilted_claims, optimality_claims, proxy_claims)


def _draw_law(axes) -> None:
  n = np.geomspace(1, 4096, 120)
  law = [best_of_n_kl(k) for k in n]
  axes.plot(n, law, color=PALETTE[6], label="log n - (n - 1) / n: no ties")
  several = np.random.default_rng(3).dirichlet(np.ones(64))
  for p, colour, label in (
    (several, PALETTE[0], "64 responses, no ties"),
    (LEVELS, PALETTE[1], "seven levels of reward"),
  ):
    costs = [kl(best_of_n(p, k), p) for k in n]
    axes.plot(n, costs, "--", color=colour, label=label)
    axes.axhline(-np.log(p[-1]), color=colour, linestyle=":", linewidth=1)
  axes.set(xscale="log", xlabel="n", ylabel="KL to the base (nats)")
  axes.xaxis.set_major_formatter("{x:g}")
  axes.set_title("Best of n: what ties leave (dotted: -log P of the best)")
  axes.legend(frameon=False, fontsize=8)


def _draw_gains(axes) -> None:
  d = np.linspace(0, 2.9, 2)
  axes.plot(d, np.sqrt(2) * d, color=PALETTE[6], label="sd sqrt(2 KL)")
  for (name, (p, r)), colour in zip(reward_laws().items(), PALETTE):
    x, gain = frontier(name, 8.0)
    axes.plot(x, gain, "--", color=colour, label=name)
    mean, spread, _ = moments(p, r)
    laws = [best_of_n(p, n) for n in 2 ** np.arange(1, 13)]
    d = [np.sqrt(kl(q, p)) for q in laws]
    gains = [(q @ r - mean) / spread for q in laws]
    axes.plot(d, gains, "o", color=colour, markersize=4)
  axes.set(xlabel="d = sqrt(KL)", ylabel="gain (sd of the reward)")
  axes.set_ylim(-0.2, 6.5)
  axes.set_title("Tilting (dashed), best of 2, 4, ..., 4096 (dots)")
  axes.legend(frameon=False, fontsize=8, loc="upper left")


def _draw_proxy(axes, method: str) -> None:
  form = {"best of n": "d", "tilting": "log d"}[method]
  for name, colour in zip(worlds(), PALETTE):
    curve = path(name, method).evenly()
    fitted = gao(curve.d, curve.gold, form)[2]
    axes.plot(curve.d, curve.gold, color=colour, label=name)
    axes.plot(curve.d, fitted, ":", color=colour, linewidth=1.4)
  axes.set(xlabel="d = sqrt(KL)", ylabel="gain of the gold reward (its sd)")
  axes.set_ylim(-0.5, 3.2)
  axes.set_title(f"{method.capitalize()} by a proxy; dotted: d (α - β {form})")
  axes.legend(frameon=False, fontsize=8, loc="upper left")


def draw() -> Figure:
  """Draws KL over n; gains over d; and gold rewards under a proxy."""
  title = "Reward grows with sqrt(KL), as far as it is Gaussian and true"
  figure = new_figure(11, 8.2, title)
  grid = figure.subplots(2, 2)
  _draw_law(grid[0, 0])
  _draw_gains(grid[0, 1])
  for axes, method in zip(grid[1], METHODS):
    _draw_proxy(axes, method)
  return figure


if __name__ == "__main__":
  out, title = out_folder(__doc__), "Reward against sqrt(KL)"
  claims = [claim for part in PARTS for claim in part()]
  sys.exit(report("kl_reward", title, claims, draw, out))
