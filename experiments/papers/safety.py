"""Constraints: a cost's zero, Safe RLHF's multiplier, HC-RLHF's test.

python -m experiments.papers.safety --out=runs/papers

Bandits are solved exactly. The test's coverage is summed over the binomial law
or, for other costs, sampled. Cost: 5 s on a CPU core.
"""

import itertools
import sys

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy import optimize

from experiments.papers.claims import Claim, out_folder, report
from experiments.papers.coverage import (
  DELTA,
  REPEATS,
  TESTS,
  false_passes,
  passes,
  sampled_passes,
)
from experiments.papers.sequences import complex_step, kl, normalized
from jalign import losses
from jalign.pages.style import PALETTE, new_figure

SAFE = "Dai et al. 2023, arXiv:2310.12773"
HC = "Chittepu et al. 2025, arXiv:2506.08266"
REWARDS, COSTS = np.array([1, 0.5, 0]), np.array([1.0, 0, -1])
# These aren't linear in the costs, so that the two forms differ.
BENT = np.array([1, 0, 0.6])
BASE, BETA = np.full(3, 1 / 3), 0.5


N = 5
# The more harmful response, the other one, and whether each is labelled unsafe.
CASES = np.array(
  [
    pair + labels
    for pair in itertools.permutations(range(N), 2)
    for labels in itertools.product((0, 1), repeat=2)
  ]
).T


@jax.jit
def _slopes(costs, weights):
  """Gradients of the expected losses of the cost model and Bradley-Terry."""
  i, j, a, b = CASES
  signed = lambda c: weights @ losses.cost_model(c[i], c[j], a == 1, b == 1)
  pairs = lambda c: weights @ losses.bradley_terry(c[i], c[j])
  return jax.grad(signed)(costs), jax.grad(pairs)(costs)


def fitted_costs(
  harms: np.ndarray, border: float, sign: int = 1
) -> tuple[np.ndarray, float]:
  """[N] costs of least expected `losses.cost_model`, and a slope.

  A response is more harmful than another with probability sigmoid(difference of
  harms), and labelled unsafe with probability sigmoid(harm - border). The slope
  is that of the pairs' part of the loss along a shift of all costs.

  Args:
    harms: [N] harms of the responses.
    border: harm of a response that is labelled safe half of the time.
    sign: sign of the labels; -1 is a mistake, for tests.
  """
  i, j, a, b = CASES
  logistic = lambda x: 1 / (1 + np.exp(-x))
  unsafe = logistic(sign * (harms - border))
  labelled = lambda k, label: np.where(label, unsafe[k], 1 - unsafe[k])
  weights = logistic(harms[i] - harms[j]) * labelled(i, a) * labelled(j, b)
  with jax.enable_x64(True):
    slope = lambda c: np.asarray(_slopes(c, weights)[0])
    costs = optimize.root(slope, np.zeros(N), tol=1e-14).x
    return costs, float(_slopes(costs + 1, weights)[1].sum())


def cost_claims(sign: int = 1) -> list[Claim]:
  """Which harm gets a cost of 0."""
  harms, border = np.array([-2.0, -0.5, 0.1, 1.0, 2.5]), 0.4
  costs, slope = fitted_costs(harms, border, sign)
  off = np.abs(costs - (harms - border)).max()
  return [
    Claim(
      SAFE,
      "the cost model's minimum is harm less the border of unsafe: pairs give"
      " the scale, labels the zero",
      f"{N} responses, {CASES.shape[1]} weighted cases: within {off:.1g};"
      f" pairs alone leave the zero free (slope {slope:.0g})",
      off < 1e-12 and abs(slope) < 1e-15,
    )
  ]


def lagrangian_policy(
  multiplier: float, rewards: np.ndarray = REWARDS, beta: float = BETA
) -> np.ndarray:
  """The policy of largest E(r - multiplier c) - beta KL(policy, base)."""
  return normalized(np.log(BASE) + (rewards - multiplier * COSTS) / beta)


def normalised_policy(multiplier: float, rewards=REWARDS) -> np.ndarray:
  """That policy for (r - multiplier c) / (1 + multiplier), beta unchanged."""
  return lagrangian_policy(multiplier, rewards, BETA * (1 + multiplier))


def value(p: np.ndarray, rewards: np.ndarray = REWARDS) -> float:
  """E r - beta KL(p, base), with `BETA`."""
  return float(p @ rewards) - BETA * kl(p, BASE)


def multiplier_of(
  limit: float, policy=lagrangian_policy, rewards=REWARDS
) -> float:
  """The lambda >= 0 at which the mean cost is the limit, by bisection."""
  gap = lambda x: float(policy(x, rewards) @ COSTS) - limit
  return 0.0 if gap(0.0) <= 0 else optimize.brentq(gap, 0, 1e3, xtol=1e-14)


def ascent(limit: float, steps: int, policy, sign: float = 1.0) -> np.ndarray:
  """[steps] lambda, as Safe RLHF moves it: log lambda += E c - limit, from 0.

  Args:
    limit: limit d of the mean cost.
    steps: number of updates.
    policy: lambda -> probabilities of the exact best response.
    sign: sign of the update; -1 is a mistake, for tests.
  """
  log_multiplier, path = 0.0, np.empty(steps)
  for t in range(steps):
    path[t] = np.exp(log_multiplier)
    cost = float(policy(path[t]) @ COSTS)
    log_multiplier = min(log_multiplier + sign * (cost - limit), 20.0)
  return path


def constrained(limit: float) -> float:
  """The largest value with E c <= limit, by SLSQP on the simplex."""
  limits = (
    {"type": "eq", "fun": lambda p: p.sum() - 1},
    {"type": "ineq", "fun": lambda p: limit - p @ COSTS},
  )
  solution = optimize.minimize(
    lambda p: BETA * (p @ np.log(p / BASE)) - p @ REWARDS,
    [0.1, 0.1, 0.8],
    bounds=[(1e-9, 1)] * 3,
    constraints=limits,
    method="SLSQP",
    options={"ftol": 1e-15, "maxiter": 500},
  )
  return -float(solution.fun)


def multiplier_claims(sign: float = 1.0) -> list[Claim]:
  """Safe RLHF's multiplier on three arms."""
  path = ascent(0.0, 400, lagrangian_policy, sign)
  policy = lagrangian_policy(path[-1])
  off = np.abs(policy - 1 / 3).max()
  tight = multiplier_of(-0.9)
  best = lagrangian_policy(tight)
  gap = abs(value(best) - constrained(-0.9))
  floor = -2 * np.sinh(1 / BETA) / (1 + 2 * np.cosh(1 / BETA))
  twin = ascent(-0.9, 400, normalised_policy)
  least = float(normalised_policy(1e9) @ COSTS)
  forms = lagrangian_policy, normalised_policy
  same = [multiplier_of(-0.5, form, BENT) for form in forms]
  ends = [value(form(x, BENT), BENT) for form, x in zip(forms, same)]
  lost = ends[0] - ends[1]
  return [
    Claim(
      SAFE,
      "r = (1, 0.5, 0), c = (1, 0, -1), beta = 0.5, d = 0: lambda* = 0.5, and"
      " the policy is uniform",
      f"ascent of log lambda from 1: {path[-1]:.12f}; uniform to {off:.1g}",
      abs(path[-1] - 0.5) < 1e-12 and off < 1e-12,
    ),
    Claim(
      SAFE,
      "d = -0.9: lambda* = 1.68815, and the policy is the constrained optimum",
      f"lambda* {tight:.5f}, E c {best @ COSTS:.4f}; SLSQP's value within"
      f" {gap:.1g}",
      abs(tight - 1.68815) < 5e-6 and gap < 1e-9,
    ),
    Claim(
      SAFE,
      "divided by 1 + lambda, with beta fixed, the least cost is -2 sinh(1 /"
      " beta) / (1 + 2 cosh(1 / beta)) = -0.851: d = -0.9 can't be met",
      f"E c {least:.6f}, formula {floor:.6f}; lambda is {twin[-1]:.2g} after"
      " 400 steps",
      abs(least - floor) < 1e-8 and floor > -0.9 and twin[-1] > 1e6,
    ),
    Claim(
      "ours, on Dai et al. 2023",
      "where both meet the limit, the divided form may lose value",
      f"r = (1, 0, 0.6), d = -0.5: lambda {same[0]:.4f} and {same[1]:.4f},"
      f" value lower by {lost:.5f}",
      lost > 1e-4,
    ),
  ]


def augmented_claims(sign: float = 1.0) -> list[Claim]:
  """HC-RLHF's pessimistic cost, written as a cost of each sample.

  Args:
    sign: sign of the mean's part; -1 is a mistake, for tests.
  """
  rng = np.random.default_rng(2)
  logits, costs, k = rng.normal(size=6), rng.normal(size=6), 1.3

  def bound(z):
    p = normalized(z)
    mean = p @ costs
    return mean + k * np.sqrt(p @ costs**2 - mean**2)

  p = normalized(logits)
  mean = p @ costs
  spread = np.sqrt(p @ costs**2 - mean**2)
  own = costs + k * (costs**2 - sign * 2 * costs * mean) / (2 * spread)
  off = np.abs(p * (own - p @ own) - complex_step(bound, logits)).max()
  return [
    Claim(
      HC,
      "c + k (c^2 - 2 c mean) / (2 std) has the gradient of mean + k std",
      f"six arms: within {off:.1g}",
      off < 1e-14,
    )
  ]


def coverage_claims() -> list[Claim]:
  """How often the test passes a policy whose cost is just at the limit."""
  sizes = (20, 100, 1000)
  rate = np.array([0.02])
  at = [passes(n, rate, rate) for n in sizes]
  chances = [float(row["Student t"][0]) for row in at]
  text = lambda numbers: ", ".join(f"{x:.4f}" for x in numbers)
  worst = {
    name: max(false_passes(n)[1][name].max() for n in sizes) for name in TESTS
  }
  normal = [sampled_passes(lambda g, s: g.normal(size=s), n) for n in sizes]
  skewed = [
    sampled_passes(lambda g, s: 1 - g.exponential(size=s), n) for n in sizes
  ]
  sampled = lambda rows: ", ".join(f"{a:.3f} ± {b:.3f}" for a, b in rows)
  safe = passes(1000, rate / 2, rate)
  half = [float(safe[name][0]) for name in ("Clopper-Pearson", "Hoeffding")]
  return [
    Claim(
      HC,
      "normal costs: Student t's test passes an unsafe policy with probability"
      " delta = 0.1",
      f"n = 20, 100, 1000, {REPEATS} repeats: {sampled(normal)}",
      all(abs(a - DELTA) < 4 * b for a, b in normal),
    ),
    Claim(
      HC,
      "left-skewed exponential costs: less often",
      sampled(skewed),
      all(a + 2 * b < DELTA for a, b in skewed),
    ),
    Claim(
      "ours, on Chittepu et al. 2025",
      "costs of 0 or 1, 2 % of them 1: Student t isn't valid; of 20 it passes"
      " all-0 samples, 0.98^20",
      f"n = 20, 100, 1000, summed: {text(chances)}; 0.98^20 = {0.98**20:.4f}",
      abs(chances[0] - 0.98**20) < 1e-12 and min(chances) > 1.3 * DELTA,
    ),
    Claim(
      "ours, on Chittepu et al. 2025",
      "Clopper-Pearson and Hoeffding keep delta at every rate",
      f"largest of 400 rates, n = 20, 100, 1000:"
      f" {worst['Clopper-Pearson']:.4f}, {worst['Hoeffding']:.4f}"
      f" (Student t {worst['Student t']:.3f})",
      max(worst["Clopper-Pearson"], worst["Hoeffding"]) <= DELTA + 1e-9
      and worst["Student t"] > 0.5,
    ),
    Claim(
      "ours, on Chittepu et al. 2025",
      "a safe policy, at half the limit of 2 %, passes Clopper-Pearson and not"
      " Hoeffding",
      f"n = 1000: {half[0]:.3f} and {half[1]:.3f}",
      half[0] > 0.5 and half[1] < 1e-12,
    ),
  ]


def claims() -> list[Claim]:
  """All claims of this page."""
  parts = (cost_claims, multiplier_claims, augmented_claims, coverage_claims)
  return [row for part in parts for row in part()]


def draw() -> Figure:
  """Plots both forms' frontier, lambda's ascent, and the test's coverage."""
  figure = new_figure(12.5, 3.9, "A limit on cost: multipliers and tests")
  front, ascending, cover = figure.subplots(1, 3)
  forms = (
    (lagrangian_policy, "r - lambda c", PALETTE[0]),
    (normalised_policy, "(r - lambda c) / (1 + lambda)", PALETTE[1]),
  )
  for policy, name, colour in forms:
    policies = [policy(x, BENT) for x in np.geomspace(1e-3, 1e3, 400)]
    costs = [p @ COSTS for p in policies]
    values = [value(p, BENT) for p in policies]
    front.plot(costs, values, color=colour, label=name)
    path = ascent(-0.9, 100, policy)
    ascending.plot(path, color=colour, label=name)
  front.set(xlabel="E c", ylabel="E r - beta KL")
  front.set_title("r = (1, 0, 0.6), c = (1, 0, -1), lambda >= 0")
  ascending.axhline(
    multiplier_of(-0.9), color="#888888", linewidth=1, linestyle=":"
  )
  ascending.set(yscale="log", xlabel="step", ylabel="lambda")
  ascending.set_title("r = (1, 0.5, 0), limit -0.9; dotted: lambda*")
  rates, chances = false_passes(100)
  for (name, heights), colour in zip(
    chances.items(), (PALETTE[1], PALETTE[0], PALETTE[2])
  ):
    cover.plot(rates, heights, color=colour, label=name)
  cover.axhline(DELTA, color="#888888", linewidth=1, linestyle=":")
  cover.set(xscale="log", ylim=(0, 1), xlabel="rate of cost 1, and limit")
  cover.set_ylabel("P(an unsafe policy passes)")
  cover.set_title("n = 100; dotted: delta = 0.1")
  for axes in (front, ascending, cover):
    axes.legend(frameon=False, fontsize=8)
  cover.xaxis.set_major_formatter("{x:g}")
  ascending.yaxis.set_major_formatter("{x:g}")
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "Limits on cost"
  sys.exit(report("safety", title, claims(), draw, out))
