"""Estimators of gradients, their bias and variance: P3O, EF21 and EF21-W.

python -m experiments.papers.estimators --out=runs/papers

P3O's estimator is enumerated on a bandit of six arms. EF21 compresses what
workers send; EF21 and EF21-W run on twenty quadratics, one of which is steep.
Cost: 5 s on a CPU core.
"""

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.papers.claims import Claim, out_folder, report
from experiments.papers.error_feedback import (
  Problem,
  Run,
  ef21,
  powers_of_two,
  quadratics,
  step_sizes,
  top_1,
)
from jalign import losses
from jalign.losses.advantages import leave_one_out_advantages
from jalign.pages.style import PALETTE, new_figure

P3O = "Wu et al. 2023, arXiv:2310.00212"
EF21 = "Richtarik et al. 2024, arXiv:2402.10774"
REWARDS = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
LOGITS = np.array([0.3, -0.2, 0.5, 0.0, -0.4, -0.9])
STEPS = 3000


class Moments(NamedTuple):
  """Moments of a gradient estimate: [A] mean, and the covariance's trace."""

  mean: np.ndarray
  variance: float


def moments(estimates: np.ndarray, p: np.ndarray, samples: float) -> Moments:
  """Moments of the mean of independent estimates.

  Args:
    estimates: [N, A] values of an estimate.
    p: [N] their probabilities.
    samples: number of independent estimates.
  """
  mean = p @ estimates
  return Moments(mean, float(p @ ((estimates - mean) ** 2).sum(1)) / samples)


@jax.jit
def _estimates(r):
  """Estimates [36, 6] for each pair of arms, by estimator."""
  n = len(LOGITS)
  log_pi = jax.nn.log_softmax(LOGITS)
  i, j = np.indices((n, n)).reshape(2, -1)

  def pairs(z):
    lp = jax.nn.log_softmax(z)
    return losses.p3o(lp[i], lp[j], log_pi[i], log_pi[j], r[i], r[j])

  # The score of an arm: the gradient of log pi.
  scores = jnp.eye(n) - jnp.exp(log_pi)
  both = jnp.stack([r[i], r[j]], 1)
  loo = leave_one_out_advantages(both, jnp.ones(both.shape, bool))
  return {
    "P3O": -jax.jacobian(pairs)(jnp.asarray(LOGITS)),
    "RLOO, k = 2": (loo[:, :1] * scores[i] + loo[:, 1:] * scores[j]) / 2,
    "plus instead of minus": (r[i] - r[j])[:, None]
    * (scores[i] + scores[j])
    / 2,
  }


def bandit(rewards: np.ndarray) -> dict[str, Moments]:
  """Moments of four draws' estimates of the gradient of E r in the logits."""
  pi = np.exp(LOGITS) / np.exp(LOGITS).sum()
  plain = rewards[:, None] * (np.eye(len(pi)) - pi)
  with jax.enable_x64(True):
    estimates = _estimates(jnp.asarray(rewards))
  pairs = np.outer(pi, pi).ravel()
  return {
    "REINFORCE": moments(plain, pi, 4),
    **{name: moments(np.asarray(x), pairs, 2) for name, x in estimates.items()},
  }


def p3o_claims() -> list[Claim]:
  """Claims on bias, and on variance under a shift of all rewards."""
  plain, raised = bandit(REWARDS), bandit(REWARDS + 10)
  pi = np.exp(LOGITS) / np.exp(LOGITS).sum()
  truth = pi * (REWARDS - pi @ REWARDS)
  score = np.eye(len(pi)) - pi
  # Var(r + c) = Var(r) + 2 c E r |score|^2 + c^2 E |score|^2; the mean stays.
  norm = (score**2).sum(1)
  grown = plain["REINFORCE"].variance
  grown += (20 * pi @ (REWARDS * norm) + 100 * pi @ norm) / 4
  bias = max(np.abs(x["P3O"].mean - truth).max() for x in (plain, raised))
  a, b = plain["P3O"].variance, raised["P3O"].variance
  c, d = plain["REINFORCE"].variance, raised["REINFORCE"].variance
  twin = plain["RLOO, k = 2"]
  plus = plain["plus instead of minus"]
  return [
    Claim(P3O, "the estimate is unbiased", f"bias {bias:.1g}", bias < 1e-14),
    Claim(
      P3O,
      "r + 10 leaves the variance as it is (four draws, two pairs)",
      f"{a:.6f}, then {b:.6f}",
      abs(a - b) < 1e-13,
    ),
    Claim(
      P3O,
      "REINFORCE's grows with the square of the shift, as the formula says",
      f"{c:.3f}, then {d:.3f}; formula {grown:.3f}",
      d > 10 * c > 10 * a and abs(d / grown - 1) < 1e-12,
    ),
    Claim(
      P3O,
      "with two draws it is leave-one-out REINFORCE",
      f"variances {a:.12f}, {twin.variance:.12f}",
      abs(a - twin.variance) < 1e-14
      and np.abs(twin.mean - plain["P3O"].mean).max() < 1e-15,
    ),
    Claim(
      P3O,
      "with the plus of the public description its mean is 0, no gradient",
      f"mean at most {np.abs(plus.mean).max():.1g}; the gradient's largest"
      f" entry is {np.abs(truth).max():.3f}",
      np.abs(plus.mean).max() < 1e-15,
    ),
  ]


def runs() -> tuple[Problem, dict[str, tuple[float, Run]]]:
  """(problem, name -> (step, run) with Top-1 compression)."""
  problem = quadratics()
  old, new, _ = step_sizes(problem, 1 / problem.centres.shape[1])
  _, constants = problem.smoothness()
  w = constants / constants.sum()
  return problem, {
    "EF21, old step": (old, ef21(problem, old, top_1)),
    "EF21, new step": (new, ef21(problem, new, top_1)),
    "EF21-W, new step": (new, ef21(problem, new, top_1, w)),
  }


def bound(problem: Problem, step: float, run: Run, alpha: float) -> float:
  """The bound of the mean |grad f|^2.

  2 (f(x_0) - f*) / (step T) + G_0 / (theta T)
  """
  t = len(run.squares)
  drop = problem.value(run.iterates[0]) - problem.minimum()
  theta = 1 - np.sqrt(1 - alpha)
  return 2 * drop / (step * t) + run.start_error / (theta * t)


def ef21_claims() -> list[Claim]:
  """Claims on step sizes, identical iterates, and bounds."""
  problem, outcomes = runs()
  alpha = 1 / problem.centres.shape[1]
  old, new, xi = step_sizes(problem, alpha)
  same, weighted = (outcomes[f"{k}, new step"][1] for k in ("EF21", "EF21-W"))
  size = np.abs(same.iterates).max()
  apart = np.abs(same.iterates - weighted.iterates)[:1000].max() / size
  # n w is (16, 1/4, ..., 1/8, ...): such factors round nothing.
  exact = np.repeat([16, 0.25, 0.125], (1, 13, 6)) * (1 / 20)
  bits = same.iterates == ef21(problem, new, top_1, exact).iterates
  _, constants = problem.smoothness()
  w = constants / constants.sum()
  rounded = [ef21(problem, new, powers_of_two, x, 300) for x in (None, w)]
  differ = np.abs(rounded[0].iterates - rounded[1].iterates).max() / size
  bounded = {
    name: (float(run.squares.mean()), bound(problem, step, run, alpha))
    for name, (step, run) in outcomes.items()
    if name != "EF21, new step"
  }
  return [
    Claim(
      EF21,
      "n = 20, Top-1 of 10, L = (10, 0.01, ...): xi = 18.4868, the arithmetic"
      " mean allows a step 4.217 times as long",
      f"xi {xi:.4f}, steps {old:.4f} and {new:.4f}, x{new / old:.3f}",
      abs(xi - 18.4868) < 5e-5 and abs(new / old - 4.217) < 1e-3,
    ),
    Claim(
      EF21,
      "under Top-K, EF21-W's iterates are EF21's, whatever the weights",
      f"{bits.mean():.0%} of {STEPS} steps' numbers the same bit for bit with"
      " n w powers of two",
      bool(bits.all()),
    ),
    Claim(
      EF21,
      "so too with w = L_i / sum L, to rounding",
      f"1000 steps: relative difference {apart:.1g}",
      apart < 1e-14,
    ),
    Claim(
      EF21,
      "not so where C(c v) isn't c C(v): rounding to powers of two",
      f"300 steps: relative difference {differ:.2g}",
      differ > 1e-6,
    ),
    *(
      Claim(
        EF21,
        f"{name}: mean |grad f|^2 is at most 2 (f0 - f*) / (step T)"
        " + G0 / (theta T)",
        f"{mean:.4g}, bound {limit:.4g}",
        mean <= limit,
      )
      for name, (mean, limit) in bounded.items()
    ),
  ]


def claims() -> list[Claim]:
  """All claims of this script."""
  return p3o_claims() + ef21_claims()


def draw() -> Figure:
  """Draws variance over shifts of rewards, and EF21's gradients over steps."""
  title = "Pairs cancel a shift of rewards; a longer step is all of EF21-W"
  figure = new_figure(10.5, 4, title)
  variance, descent = figure.subplots(1, 2)
  # A variance is quadratic in the shift, so three points give the parabola.
  three, shifts = (-10, 0, 10), np.linspace(-10, 10, 401)
  at = [bandit(REWARDS + shift) for shift in three]
  for name, colour in (("REINFORCE", PALETTE[1]), ("P3O", PALETTE[0])):
    parabola = np.polyfit(three, [x[name].variance for x in at], 2)
    heights = np.polyval(parabola, shifts)
    variance.plot(shifts, heights, color=colour, label=name)
  variance.set(yscale="log", xlabel="added to every reward")
  variance.set_ylabel("variance (trace), 4 draws")
  variance.set_title("Six arms, enumerated")
  variance.legend(frameon=False)
  _, outcomes = runs()
  looks = (
    (PALETTE[1], "-", 1.8),
    (PALETTE[5], "-", 4),
    (PALETTE[0], "--", 1.8),
  )
  for (name, (step, run)), (colour, dashes, width) in zip(
    outcomes.items(), looks
  ):
    mean = np.cumsum(run.squares) / np.arange(1, STEPS + 1)
    label = f"{name} {step:.3f}"
    style = {"color": colour, "linestyle": dashes, "linewidth": width}
    descent.plot(np.arange(1, STEPS + 1), mean, label=label, **style)
  descent.set(xscale="log", yscale="log", xlabel="step")
  descent.set_ylabel("mean |grad f|² so far")
  descent.set_title("20 workers, Top-1 compression")
  descent.legend(frameon=False)
  descent.xaxis.set_major_formatter("{x:g}")
  for axes in (variance, descent):
    axes.yaxis.set_major_formatter("{x:g}")
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "Estimators of gradients"
  sys.exit(report("estimators", title, claims(), draw, out))
