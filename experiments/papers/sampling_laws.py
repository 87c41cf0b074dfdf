"""What sampling and reweighting do to a policy, as exact laws.

python -m experiments.papers.sampling_laws --out=runs/papers

The laws are of best-of-n and RAFT's rounds, of the optimum for several rewards,
and of the AND of rewards. Finite sets are enumerated; continuous rewards are
integrated; RAFT's rounds are sampled, too. Cost: 25 s on a CPU core.
"""

import functools
import sys

import numpy as np
from matplotlib.figure import Figure
from scipy import integrate, optimize

from experiments.papers import sampled_rounds
from experiments.papers.claims import Claim, out_folder, report
from experiments.papers.sequences import composed, kl, normalized, token_policy
from jalign.pages.style import PALETTE, new_figure

BON = "Dong et al. 2023, arXiv:2304.06767; best-of-n"
MORLHF = "multi-objective RLHF (MODPO, arXiv:2310.03708)"
OURS = "ours, on Dong et al. 2023"
AND = "Wang et al. 2024, arXiv:2402.00742"
R1, R2 = np.array([5.0, 1, -1, -4]), np.array([-4.0, 1, 2, 5])
# Powers of two, whose shares add up without rounding.
ATOMS = (512, 8192)
WEIGHTS, BETA = np.array([0.3, 0.7]), 0.5


def best_of_n(p: np.ndarray, n: int) -> np.ndarray:
  """[K] the law of the best of n draws from p; arms are in rising order."""
  above = np.cumsum(p)
  return np.diff(np.minimum(above, 1) ** n, prepend=0)


def best_of_n_kl(n: int) -> float:
  """KL(best of n || base), log n - (n - 1) / n nats, for continuous rewards."""
  return np.log(n) - (n - 1) / n


def win_rate(q: np.ndarray, p: np.ndarray) -> float:
  """P(a draw of q is better than a draw of p); a tie is half a win."""
  return float(q @ (np.cumsum(p) - p / 2))


def continuum(n: int) -> tuple[float, float]:
  """Best-of-n's KL and win rate for continuous rewards, by quadrature."""
  density = lambda u: n * u ** (n - 1)
  divergence = lambda u: density(u) * np.log(density(u)) if u > 0 else 0.0
  tight = {"epsabs": 1e-13, "epsrel": 1e-13}
  return (
    integrate.quad(divergence, 0, 1, **tight)[0],
    integrate.quad(lambda u: u * density(u), 0, 1, **tight)[0],
  )


def counted_kl(n: int, atoms: int) -> float:
  """KL of best-of-n of equal atoms, by counting all atoms^n outcomes."""
  draws = np.indices((atoms,) * n, dtype=np.int8).max(0)
  counts = np.bincount(draws.ravel(), minlength=atoms)
  q = counts / counts.sum()
  return float(np.sum(q * np.log(q * atoms)))


def atoms_gap(n: int, atoms: int) -> float:
  """How much lower equal atoms' KL is than the continuum's, for many atoms.

  A cell of width h hides h^2 / 24 f'^2 / f of the density f = n u^(n - 1); the
  integral of f'^2 / f is n (n - 1)^2 / (n - 2), for n > 2.
  """
  return n * (n - 1) ** 2 / (24 * (n - 2) * atoms**2)


def equal_atoms_kl(n: int, atoms: int) -> float:
  """KL of best-of-n of equal atoms, by the law of `best_of_n`."""
  p = np.full(atoms, 1 / atoms)
  return kl(best_of_n(p, n), p)


def best_of_n_claims() -> list[Claim]:
  """Best-of-n's KL and win rate, for continuous rewards and for atoms."""
  rows = []
  for n, number in ((4, 0.636294), (16, 1.835089)):
    divergence, wins = continuum(n)
    exact = best_of_n_kl(n)
    near = abs(exact - number) < 1e-6 and abs(divergence - exact) < 1e-10
    gaps = [exact - equal_atoms_kl(n, k) for k in ATOMS]
    ratios = [g / atoms_gap(n, k) for g, k in zip(gaps, ATOMS)]
    rows += [
      Claim(
        BON,
        f"KL(best of {n} || base) = log n - (n - 1) / n = {number}",
        f"{divergence:.6f} by quadrature",
        near,
      ),
      Claim(
        BON,
        f"win rate over one draw n / (n + 1) = {n / (n + 1):.6f}",
        f"{wins:.6f}",
        abs(wins - n / (n + 1)) < 1e-10,
      ),
      Claim(
        OURS,
        f"K equal atoms, n = {n}: KL is n (n - 1)^2 / (24 (n - 2) K^2) lower,"
        " to leading order",
        f"K = {ATOMS[0]}, {ATOMS[1]}: {gaps[0]:.4g}, {gaps[1]:.4g} lower,"
        f" {ratios[0]:.6f} and {ratios[1]:.6f} of it",
        abs(ratios[0] - 1) < 1e-3 and abs(ratios[1] - 1) < 1e-5,
      ),
    ]
  law, counted = equal_atoms_kl(4, 27), counted_kl(4, 27)
  rows.append(
    Claim(
      OURS,
      "27 equal atoms, n = 4: the law agrees with counting all 27^4 outcomes",
      f"{law:.12f}, counted {counted:.12f}",
      abs(law - counted) < 1e-14,
    )
  )
  rng = np.random.default_rng(0)
  gaps, wins = [], []
  for _ in range(500):
    p = rng.dirichlet(np.full(rng.integers(2, 40), 0.5))
    n = int(rng.integers(2, 65))
    q = best_of_n(p, n)
    gaps.append(best_of_n_kl(n) - kl(q, p))
    wins.append(n / (n + 1) - win_rate(q, p))
  rows.append(
    Claim(
      BON,
      "both are upper bounds for any atoms",
      f"500 random laws: KL at least {min(gaps):.2g} below, win rate"
      f" {min(wins):.2g}",
      min(gaps) > 0 and min(wins) > 0,
    )
  )
  return rows


def raft_claims() -> list[Claim]:
  """Rounds of best-of-K, after each of which the policy is refitted exactly."""
  atoms = ATOMS[1]
  base = np.full(atoms, 1 / atoms)
  policy, measured, apart, left = base, [], 0.0, []
  for t in (1, 2, 3):
    policy = best_of_n(policy, 4)
    measured.append(kl(policy, base))
    apart = max(apart, np.abs(policy - best_of_n(base, 4**t)).max())
    left.append((best_of_n_kl(4**t) - measured[-1]) / atoms_gap(4**t, atoms))
  law = [best_of_n_kl(4**t) for t in (1, 2, 3)]
  text = lambda numbers: ", ".join(f"{x:.6f}" for x in numbers)
  return [
    Claim(
      BON,
      "round t of RAFT with K draws is best-of-K^t",
      f"K = 4, t = 1, 2, 3: probabilities differ by {apart:.1g}",
      apart < 1e-14,
    ),
    Claim(
      BON,
      "KL after rounds 1-3 at K = 4 is log n - (n - 1) / n at n = 4, 16, 64:"
      f" {text(law)}, less the atoms' gap",
      f"{text(measured)} with {atoms} equal atoms; the gaps are"
      f" {text(left)} of the leading order",
      bool(np.abs(np.subtract(left, 1)).max() < 1e-3)
      and abs(law[2] - 3.174508) < 1e-6,
    ),
  ]


def _morlhf() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Base, weighted reward, [2, ...] optima of each reward, their mixture.

  The last is the optimum of the weighted reward, in closed form.
  """
  rng = np.random.default_rng(1)
  shape = (3, 3, 3)
  base = normalized(rng.normal(size=shape))
  rewards = rng.normal(size=(2, *shape))
  single = np.stack([normalized(np.log(base) + r / BETA) for r in rewards])
  joint = np.tensordot(WEIGHTS, rewards, 1)
  return base, joint, single, normalized(np.log(base) + joint / BETA)


def morlhf_claims() -> list[Claim]:
  """The optimum of a weighted reward is a geometric mixture of sequences."""
  base, joint, single, _ = _morlhf()
  value = lambda p: float(np.sum(p * joint)) - BETA * kl(p, base)
  loss = lambda z: -value(normalized(z.reshape(base.shape)))

  def slope(z):
    p = normalized(z.reshape(base.shape))
    a = joint - BETA * (np.log(p) - np.log(base))
    return -(p * (a - np.sum(p * a))).ravel()

  # The optimum is searched for from the base, without the closed form.
  start = np.log(base).ravel()
  tight = {"gtol": 1e-13, "maxiter": 2000}
  best = optimize.minimize(loss, start, jac=slope, options=tight)
  best = normalized(best.x.reshape(base.shape))
  mixed = normalized(np.tensordot(WEIGHTS, np.log(single), 1))
  steps = [token_policy(p) for p in single]
  tokens = []
  for pair in zip(*steps):
    logits = np.tensordot(WEIGHTS, np.log(np.stack(pair)), 1)
    p = np.exp(logits)
    tokens.append(p / p.sum(-1, keepdims=True))
  by_token = composed(tokens)
  lost = value(mixed) - value(by_token)
  far = kl(by_token, mixed)
  return [
    Claim(
      MORLHF,
      "the optimum of sum w_i r_i - beta KL is prop. to prod pi_i^w_i, over"
      " whole sequences",
      f"27 sequences: searched optimum differs by"
      f" {np.abs(best - mixed).max():.1g}, its value by"
      f" {abs(value(best) - value(mixed)):.1g}",
      np.abs(best - mixed).max() < 1e-7
      and abs(value(best) - value(mixed)) < 1e-12,
    ),
    Claim(
      MORLHF,
      "mixing token by token isn't it, and loses beta KL(tokens || sequences)",
      f"KL {far:.4f}; lost {lost:.6f}, beta KL {BETA * far:.6f}",
      far > 1e-3 and abs(lost - BETA * far) < 1e-12,
    ),
  ]


def and_policies() -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """P(both rewards good) of four responses, and the policies over them."""
  good = 1 / ((1 + np.exp(-R1)) * (1 + np.exp(-R2)))
  base = np.full(4, 0.25)
  return good, {
    "base": base,
    "sum of rewards": normalized(np.log(base) + R1 + R2),
    "sum of log-sigmoids": normalized(np.log(base) + np.log(good)),
  }


def and_claims() -> list[Claim]:
  """RL with a KL penalty on log-sigmoid rewards conditions on "all good"."""
  good, policies = and_policies()
  # Bayes by counting: P(y, both good) over its sum.
  joint = policies["base"] * good
  posterior = joint / joint.sum()
  both = policies["sum of log-sigmoids"]
  off = np.abs(both - posterior).max()
  shown = ", ".join(f"{x:.4f}" for x in both)
  rates = [float(p @ good) for p in policies.values()]
  plain = ", ".join(f"{x:.3f}" for x in policies["sum of rewards"])
  return [
    Claim(
      AND,
      "log-sigmoids, beta = 1: the posterior given both good, 0.0221, 0.6622,"
      " 0.2935, 0.0221",
      f"{shown}; differs by {off:.1g}",
      off < 1e-15 and shown == "0.0221, 0.6622, 0.2935, 0.0221",
    ),
    Claim(
      AND,
      "the sum of rewards: 0.175, 0.475, 0.175, 0.175",
      plain,
      plain == "0.175, 0.475, 0.175, 0.175",
    ),
    Claim(
      AND,
      "P(both good): base 0.2018, sum 0.3017, log-sigmoids 0.4242",
      ", ".join(f"{x:.4f}" for x in rates),
      np.allclose(rates, (0.2018, 0.3017, 0.4242), atol=5.1e-5),
    ),
  ]


def claims() -> list[Claim]:
  """All claims of this page."""
  parts = (
    best_of_n_claims,
    raft_claims,
    sampled_rounds.raft_claims,
    morlhf_claims,
    and_claims,
  )
  return functools.reduce(lambda rows, part: rows + part(), parts, [])


def draw() -> Figure:
  """Plots best-of-n's KL and win rate over n, and the AND of rewards."""
  figure = new_figure(12, 3.9, "Best-of-n buys log n nats; AND isn't a sum")
  law, wins, bars = figure.subplots(1, 3)
  n = np.geomspace(1, 1024, 200)  # the laws hold for fractions, too
  law.plot(n, [best_of_n_kl(k) for k in n], color=PALETTE[0], label="law")
  for colour, atoms in zip(PALETTE[1:], (27, 100, 1000)):
    p = np.full(atoms, 1 / atoms)
    rise = [kl(best_of_n(p, k), p) for k in n]
    law.plot(n, rise, "--", color=colour, label=f"{atoms} equal atoms")
  rounds = 4 ** np.arange(1, 4)
  heights = [best_of_n_kl(k) for k in rounds]
  law.plot(rounds, heights, "ko", label="RAFT, K = 4, rounds 1-3", zorder=3)
  law.set(xscale="log", xlabel="n", ylabel="KL to the base (nats)")
  law.set_title("KL is log n - (n - 1) / n, less for atoms")
  law.legend(frameon=False, fontsize=8)
  wins.plot(n, n / (n + 1), color=PALETTE[0], label="n / (n + 1)")
  for colour, atoms in ((PALETTE[1], 27), (PALETTE[2], 5)):
    p = np.full(atoms, 1 / atoms)
    rate = [win_rate(best_of_n(p, k), p) for k in n]
    wins.plot(n, rate, "--", color=colour, label=f"{atoms} equal atoms")
  wins.set(xscale="log", xlabel="n", ylabel="P(win)", ylim=(0.5, 1.0))
  wins.set_title("Win rate over one draw; a tie is half")
  wins.legend(frameon=False, fontsize=8, loc="lower right")
  good, policies = and_policies()
  for i, (name, p) in enumerate(policies.items()):
    label = f"{name}: both good {p @ good:.3f}"
    place = np.arange(4) + 0.27 * (i - 1)
    colour = (PALETTE[6], PALETTE[1], PALETTE[0])[i]
    bars.bar(place, p, 0.25, color=colour, label=label)
  ticks = [f"{a:g}, {b:g}" for a, b in zip(R1, R2)]
  bars.set_xticks(range(4), ticks)
  bars.set(xlabel="rewards r1, r2 of the response", ylabel="probability")
  bars.set_ylim(0, 1)
  bars.grid(axis="x", visible=False)
  bars.set_title("Two rewards, KL-regularised, beta = 1")
  bars.legend(frameon=False, fontsize=8, loc="upper right")
  for axes in (law, wins):
    axes.xaxis.set_major_formatter("{x:g}")
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  sys.exit(report("sampling_laws", "Laws of sampling", claims(), draw, out))
