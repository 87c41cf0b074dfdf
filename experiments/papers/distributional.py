"""Learning a target distribution: f-DPG, GDC, RLHF as a target, and PARL.

python -m experiments.papers.distributional --out=runs/papers

Expectations are sums over all sequences. Oracles are derivatives by a complex
step, which are exact to rounding. Cost: 6 s on a CPU core.
"""

import functools
import sys
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy import optimize

from experiments.papers.bilevel import Bilevel
from experiments.papers.claims import Claim, out_folder, report
from experiments.papers.sequences import complex_step, kl, normalized
from jalign import losses
from jalign.pages.style import PALETTE, new_figure

FDPG = "Go et al. 2023, arXiv:2302.08215"
GDC = "Khalifa et al. 2020, arXiv:2012.11635"
PARL = "Chakraborty et al. 2023, arXiv:2308.02585"
BETA = 0.5

# D(policy || target); probabilities may be complex, for derivatives.
DIVERGENCES = {
  "reverse KL": lambda q, p: np.sum(q * np.log(q / p)),
  "forward KL": lambda q, p: np.sum(p * np.log(p / q)),
  "Jensen-Shannon": lambda q, p: np.sum(
    q * np.log(2 * q / (p + q)) + p * np.log(2 * p / (p + q))
  ),
  "total variation": lambda q, p: np.sum((q - p) * np.sign((q - p).real)) / 2,
  "forward chi2": lambda q, p: np.sum((p - q) ** 2 / q),
  "reverse chi2": lambda q, p: np.sum((p - q) ** 2 / p),
}
LOSSES = {
  "reverse KL": losses.f_dpg_reverse_kl,
  "forward KL": losses.f_dpg_forward_kl,
  "Jensen-Shannon": losses.f_dpg_js,
  "total variation": losses.f_dpg_tv,
  "forward chi2": losses.f_dpg_forward_chi2,
  "reverse chi2": losses.f_dpg_reverse_chi2,
}


@functools.lru_cache
def _expected_gradients(terms: tuple, family: Callable) -> Callable:
  """jit of (theta, target log-probs) -> E_policy grad loss [terms, ...]."""

  def expected(theta, target, loss, baseline):
    logps = family(theta)
    held = jnp.exp(jax.lax.stop_gradient(logps))
    return held @ loss(logps, target, baseline=baseline)

  return jax.jit(
    lambda theta, target: jnp.stack(
      [jax.grad(expected)(theta, target, *term) for term in terms]
    )
  )


def dpg_gradients(
  terms: Iterable[tuple[Callable, float]],
  theta: np.ndarray,
  target: np.ndarray,
  family: Callable = jax.nn.log_softmax,
) -> np.ndarray:
  """Expected gradients in theta of (loss, baseline) terms, for a target [N]."""
  with jax.enable_x64(True):
    gradients = _expected_gradients(tuple(terms), family)
    return np.asarray(gradients(theta, np.log(target)))


def world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(base [27], logits [27], rewards [27]) of sequences of three tokens."""
  rng = np.random.default_rng(3)
  return normalized(rng.normal(size=27)), *rng.normal(size=(2, 27))


def f_dpg_claims(all_losses=LOSSES) -> list[Claim]:
  """Claims on each divergence's gradient, and on a baseline."""
  base, logits, reward = world()
  target = normalized(np.log(base) + reward)
  terms = [(all_losses[name], x) for x in (0.0, 3.0) for name in DIVERGENCES]
  gradients, shifted = np.split(dpg_gradients(terms, logits, target), 2)
  moved = np.abs(shifted - gradients).max()
  off = {}
  for (name, divergence), gradient in zip(DIVERGENCES.items(), gradients):
    value = lambda z, d=divergence: d(normalized(z), target)
    exact = complex_step(value, logits)
    off[name] = np.abs(gradient - exact).max() / np.abs(exact).max()
  worst = max(off, key=off.__getitem__)
  return [
    Claim(
      FDPG,
      "E_pi f'(pi / p) grad log pi is the divergence's gradient, for six f",
      f"27 sequences: within {off[worst]:.1g} of its size (the {worst})",
      off[worst] < 1e-13,
    ),
    Claim(
      FDPG,
      "a baseline changes no expected gradient",
      f"baseline 3: moved by {moved:.1g}",
      moved < 1e-14,
    ),
  ]


def rlhf_claims(sign: float = 1.0) -> list[Claim]:
  """RLHF is f-DPG on a tilted target; sign -1 is a mistake, for tests."""
  base, logits, reward = world()
  target = normalized(np.log(base) + sign * reward / BETA)

  def lacks(z):  # what RLHF minimises: beta KL minus the mean reward
    q = normalized(z)
    return np.sum(q * (BETA * np.log(q / base) - reward))

  exact = complex_step(lacks, logits)
  term = (losses.f_dpg_reverse_kl, 0.0)
  gradient = BETA * dpg_gradients([term], logits, target)[0]
  off = np.abs(gradient - exact).max()
  residual = np.abs(complex_step(lacks, np.log(target))).max()
  return [
    Claim(
      FDPG,
      "RLHF's gradient is beta times reverse-KL f-DPG's on base exp(r / beta)",
      f"within {off:.1g}; at that target RLHF's is {residual:.1g}",
      off < 1e-14 and residual < 1e-14,
    )
  ]


# Discretised normal laws are exponential in x and x^2.
GRID = np.linspace(-4, 4, 81)
BIMODAL = normalized(
  np.logaddexp(-((GRID + 1.5) ** 2) / 0.5, -0.6 - (GRID - 1.5) ** 2 / 0.5)
)


def normals(theta: np.ndarray) -> jax.Array:
  """[81] log-probs of a normal of mean theta_0 and log width theta_1, about."""
  z = (GRID - theta[0]) * jnp.exp(-theta[1])
  return jax.nn.log_softmax(-jnp.square(z) / 2)


@functools.lru_cache
def fits() -> dict[str, np.ndarray]:
  """The best normal [81] under each smooth divergence, found by f-DPG."""
  optima = {}
  for name in ("reverse KL", "forward KL", "Jensen-Shannon"):
    slope = lambda theta, loss=LOSSES[name]: dpg_gradients(
      [(loss, 0.0)], theta, BIMODAL, normals
    )[0]
    ends = []
    for start in ((-1.0, 0.0), (1.0, 0.0), (0.0, 0.7)):
      theta = np.array(start)
      for _ in range(300):  # into the basin; `root` then solves to rounding
        theta = theta - 0.2 * slope(theta)
      with jax.enable_x64(True):
        q = np.exp(np.asarray(normals(optimize.root(slope, theta).x)))
      ends.append((float(DIVERGENCES[name](q, BIMODAL)), q))
    optima[name] = min(ends, key=lambda end: end[0])[1]
  return optima


def fit_claims() -> list[Claim]:
  """Claims on which f covers the target, and which f seeks a mode."""
  optima = fits()
  mean = lambda p: float(p @ GRID)
  spread = lambda p: float(np.sqrt(p @ GRID**2 - mean(p) ** 2))
  forward, reverse = optima["forward KL"], optima["reverse KL"]
  matched = max(
    abs(mean(forward) - mean(BIMODAL)), abs(spread(forward) - spread(BIMODAL))
  )
  share = float(reverse[GRID < 0].sum())
  return [
    Claim(
      FDPG,
      "a normal fitted by forward KL covers both modes: the target's mean and"
      " width",
      f"mean {mean(forward):.4f}, width {spread(forward):.4f}; off by"
      f" {matched:.1g}",
      matched < 1e-9,
    ),
    Claim(
      FDPG,
      "by reverse KL it seeks the heavier mode",
      f"{share:.4f} of the fit on a mode of {BIMODAL[GRID < 0].sum():.4f};"
      f" width {spread(reverse):.4f}",
      share > 0.99 and spread(reverse) < 0.6,
    ),
  ]


def tilt(base: np.ndarray, features: np.ndarray, moments: np.ndarray):
  """GDC: (lambda [k], target [N]), base exp(lambda features) of given moments.

  This is Newton's method on the convex dual, with steps halved where they
  would climb.

  Args:
    base: [N] probabilities.
    features: [k, N].
    moments: [k] wanted means of the features.
  """
  x = np.zeros(len(features))
  at = lambda x: normalized(np.log(base) + x @ features)
  dual = lambda x: np.log(base @ np.exp(x @ features)) - x @ moments
  for _ in range(50):
    p = at(x)
    centred = features - (features @ p)[:, None]
    step = np.linalg.solve((p * centred) @ centred.T, moments - features @ p)
    while dual(x + step) > dual(x) + 1e-12:
      step = step / 2
    x = x + step
  return x, at(x)


def gdc_features() -> np.ndarray:
  """[2, 27] features: the first token is 0; the last two tokens are equal."""
  first, second, third = np.indices((3, 3, 3)).reshape(3, -1)
  return np.stack([first == 0, second == third]).astype(float)


def gdc_claims() -> list[Claim]:
  """Claims on the target of given moments."""
  base, features = world()[0], gdc_features()
  logit = lambda x: float(np.log(x / (1 - x)))
  single, p = tilt(base, features[:1], np.array([0.7]))
  now = float(features[0] @ base)
  closed = logit(0.7) - logit(now)
  goal = np.array([0.7, 0.6])
  both, target = tilt(base, features, goal)
  # Any other law with these moments, here tilted from other bases, costs more.
  rng = np.random.default_rng(0)
  gaps = []
  for _ in range(20):
    other = tilt(rng.dirichlet(np.ones(27)), features, goal)[1]
    gaps.append(kl(other, base) - kl(other, target) - kl(target, base))
  worst = float(np.abs(gaps).max())
  return [
    Claim(
      GDC,
      "one binary feature: lambda = logit(goal) - logit(E_base phi)",
      f"{now:.4f} to 0.7: Newton {single[0]:.12f}, closed {closed:.12f}",
      abs(single[0] - closed) < 1e-13 and abs(features[0] @ p - 0.7) < 1e-14,
    ),
    Claim(
      GDC,
      "of all laws with the moments the tilted one is nearest the base:"
      " KL(q, base) = KL(q, target) + KL(target, base)",
      f"moments 0.7, 0.6: lambda {both[0]:.6f}, {both[1]:.6f}; 20 other laws:"
      f" within {worst:.1g}",
      worst < 1e-12 and np.abs(features @ target - goal).max() < 1e-13,
    ),
  ]


def parl_claims(sign: float = 1.0) -> list[Claim]:
  """The hypergradient; sign -1, of the data's part, is a mistake, for tests."""
  game = Bilevel(BETA)
  nu = np.array([0.3, -0.4, 0.2])
  u = game.utility
  simple = complex_step(lambda x: game.policy(x) @ u, nu)
  closed = sign * game.covariance(game.policy(nu), u) / BETA
  off = np.abs(simple - closed).max()
  exact = complex_step(game.value, nu)
  held, moved = game.gradient(nu)
  off_pairs = np.abs(held + sign * moved - exact).max()
  bias = float(np.linalg.norm(held - exact) / np.linalg.norm(exact))
  ends = [game.value(game.climb(whole)[-1]) for whole in (True, False)]
  return [
    Claim(
      PARL,
      "the gradient of E_pi*(nu) u is Cov(u, grad r_nu) / beta",
      f"within {off:.1g}",
      off < 1e-14,
    ),
    Claim(
      PARL,
      "with pairs drawn from pi*(nu) their law adds 2 / beta Cov(mean"
      " likelihood, grad r_nu)",
      f"within {off_pairs:.1g}",
      off_pairs < 1e-14,
    ),
    Claim(
      PARL,
      "without that part the gradient is biased and goes elsewhere",
      f"{bias:.0%} off; likelihood after 400 steps {ends[1]:.4f} against"
      f" {ends[0]:.4f}",
      bias > 0.1 and ends[0] > ends[1] + 1e-3,
    ),
  ]


def claims() -> list[Claim]:
  """All claims of this script."""
  parts = (f_dpg_claims, fit_claims, rlhf_claims, gdc_claims, parl_claims)
  return [row for part in parts for row in part()]


def draw() -> Figure:
  """Draws fits of a bimodal target, GDC's moment, and PARL's ascent."""
  figure = new_figure(12.5, 3.9, "Learning a target, and a moving one")
  fit, moment, climb = figure.subplots(1, 3)
  fit.fill_between(GRID, BIMODAL, color="#DDDDDD", label="target")
  for (name, p), colour in zip(fits().items(), (PALETTE[1], PALETTE[5], "k")):
    look = "-" if name != "Jensen-Shannon" else (0, (1, 1))
    fit.plot(GRID, p, color=colour, linestyle=look, label=name)
  fit.set(xlabel="outcome", ylabel="probability", ylim=(0, None))
  fit.set_title("The normal nearest to the target, by f-DPG")
  fit.legend(frameon=False, fontsize=8)
  base, features = world()[0], gdc_features()
  coefficients = np.linspace(-4, 4, 101)
  for row, name, colour in zip(
    features, ("first token is 0", "last two are the same"), PALETTE
  ):
    tilted = [normalized(np.log(base) + x * row) @ row for x in coefficients]
    moment.plot(coefficients, tilted, color=colour, label=name)
    root = tilt(base, row[None], np.array([0.7]))[0]
    moment.plot(root, [0.7], "o", color=colour, markersize=7)
  moment.axhline(0.7, color="#888888", linewidth=1, linestyle=":")
  moment.set(xlabel="lambda", ylabel="E phi", ylim=(0, 1))
  moment.set_title("GDC: dots are logit(0.7) - logit(E_base phi)")
  moment.legend(frameon=False, fontsize=8)
  game = Bilevel(BETA)
  for whole, name, colour in (
    (True, "whole gradient", PALETTE[0]),
    (False, "the pairs' law held fixed", PALETTE[1]),
  ):
    heights = [game.value(nu) for nu in game.climb(whole)]
    climb.plot(np.arange(1, 401), heights, color=colour, label=name)
  climb.set_xscale("log")
  climb.xaxis.set_major_formatter("{x:g}")
  climb.set(xlabel="upper steps", ylabel="likelihood of a pair (nats)")
  climb.set_title("PARL: pairs come from the policy")
  climb.legend(frameon=False, fontsize=8)
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "Learning a target distribution"
  sys.exit(report("distributional", title, claims(), draw, out))
