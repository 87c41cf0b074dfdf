"""Estimators of gradients, their bias and variance: P3O, EF21 and EF21-W.

P3O's is enumerated on a bandit of six arms. EF21 compresses what workers
send; both forms run on twenty quadratics, of which one is steep.
Cost: 4 s on a CPU core.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from claims import Claim, out_folder, report

from jalign import losses
from jalign.evaluation.style import PALETTE, new_figure
from jalign.losses.advantages import leave_one_out_advantages

P3O = "Wu et al. 2023, arXiv:2310.00212"
EF21 = "Richtarik et al. 2024, arXiv:2402.10774"
REWARDS = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
LOGITS = np.array([0.3, -0.2, 0.5, 0.0, -0.4, -0.9])
STEPS = 3000


class Moments(NamedTuple):
  """Of a gradient estimate: [A] mean, and the trace of its covariance."""

  mean: np.ndarray
  variance: float


def moments(estimates: np.ndarray, p: np.ndarray, samples: float) -> Moments:
  """Of the mean of independent estimates [N, A] with probabilities p [N]."""
  mean = p @ estimates
  return Moments(mean, float(p @ ((estimates - mean) ** 2).sum(1)) / samples)


def bandit(rewards: np.ndarray) -> dict[str, Moments]:
  """Four draws' estimates of the gradient of E r in the logits, exactly."""
  with jax.enable_x64(True):
    logits = jnp.asarray(LOGITS)
    log_pi = jax.nn.log_softmax(logits)
    n = len(LOGITS)
    i, j = (jnp.asarray(x.ravel()) for x in np.mgrid[:n, :n])
    r = jnp.asarray(rewards)

    def pair(a, b):
      def loss(z):
        lp = jax.nn.log_softmax(z)
        old = log_pi[a][None], log_pi[b][None]
        scores = r[a][None], r[b][None]
        return losses.p3o(lp[a][None], lp[b][None], *old, *scores)[0]

      return -jax.grad(loss)(logits)

    # The score of an arm: the gradient of log pi.
    scores = jnp.eye(n) - jnp.exp(log_pi)
    both = jnp.stack([r[i], r[j]], 1)
    valid = jnp.ones(both.shape, bool)
    loo = leave_one_out_advantages(both, valid)
    pi = np.asarray(jnp.exp(log_pi))
    pairs = pi[np.asarray(i)] * pi[np.asarray(j)]
    return {
      "P3O": moments(np.asarray(jax.vmap(pair)(i, j)), pairs, 2),
      "RLOO, k = 2": moments(
        np.asarray((loo[:, :1] * scores[i] + loo[:, 1:] * scores[j]) / 2),
        pairs,
        2,
      ),
      "REINFORCE": moments(np.asarray(r[:, None] * scores), pi, 4),
      "plus instead of minus": moments(
        np.asarray((r[i] - r[j])[:, None] * (scores[i] + scores[j]) / 2),
        pairs,
        2,
      ),
    }


def p3o_claims() -> list[Claim]:
  """Bias, and variance under a shift of all rewards."""
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


class Problem(NamedTuple):
  """f(x) = mean over workers i of (x - b_i)^T A_i (x - b_i) / 2."""

  hessians: np.ndarray
  centres: np.ndarray

  def gradients(self, x: np.ndarray) -> np.ndarray:
    """[n, d] of each worker."""
    return np.einsum("nij,nj->ni", self.hessians, x - self.centres)

  def value(self, x: np.ndarray) -> float:
    """f(x)."""
    return float(np.sum((x - self.centres) * self.gradients(x)) / 2) / len(
      self.centres
    )

  def minimum(self) -> float:
    """f*, by a linear solve."""
    total = np.einsum("nij,nj->i", self.hessians, self.centres)
    return self.value(np.linalg.solve(self.hessians.sum(0), total))

  def smoothness(self) -> tuple[float, np.ndarray]:
    """L of f, and [n] L_i of the workers."""
    top = lambda a: np.linalg.eigvalsh(a)[..., -1]
    return float(top(self.hessians.mean(0))), top(self.hessians)


def quadratics(n: int = 20, d: int = 10, seed: int = 0) -> Problem:
  """The first worker's L is 10, the others' 0.01."""
  rng = np.random.default_rng(seed)
  turns = np.linalg.qr(rng.normal(size=(n, d, d)))[0]
  spectrum = np.linspace(0.1, 1, d) ** 2
  steep = np.where(np.arange(n) == 0, 10, 0.01)[:, None, None]
  hessians = steep * np.einsum("nij,j,nkj->nik", turns, spectrum, turns)
  return Problem(hessians, rng.normal(size=(n, d)))


def top_1(v: np.ndarray) -> np.ndarray:
  """Each row's largest entry by size; alpha = 1 / d."""
  keep = np.abs(v).argmax(-1)[..., None]
  kept = np.zeros_like(v)
  np.put_along_axis(kept, keep, np.take_along_axis(v, keep, -1), -1)
  return kept


def powers_of_two(v: np.ndarray) -> np.ndarray:
  """Each entry rounded towards 0 to a power of two; alpha = 3 / 4."""
  mantissa, exponent = np.frexp(v)
  return np.ldexp(np.sign(mantissa) / 2, exponent)


class Run(NamedTuple):
  """[T, d] iterates, [T] squared norms of the gradient, and G of the start."""

  iterates: np.ndarray
  squares: np.ndarray
  start_error: float


def ef21(
  problem: Problem,
  step: float,
  compress: Callable[[np.ndarray], np.ndarray],
  weights: np.ndarray | None = None,
  steps: int = STEPS,
) -> Run:
  """EF21, or EF21-W where workers have weights.

  x+ = x - step sum_i w_i g_i,
  g_i+ = g_i + compress(grad f_i(x+) / (n w_i) - g_i)

  Richtarik et al. 2024, "Error Feedback Reloaded: From Quadratic to Arithmetic
  Mean of Smoothness Constants", arXiv:2402.10774.

  Args:
    problem: with n workers in d dimensions; the start is 0.
    step: gamma.
    compress: [n, d] -> [n, d], contractive.
    weights: [n] w_i, which sum to 1; by default equal: plain EF21.
    steps: T.

  Returns:
    The run; G is sum_i w_i |g_i - grad f_i / (n w_i)|^2.
  """
  n, d = problem.centres.shape
  w = np.full(n, 1 / n) if weights is None else weights
  x = np.zeros(d)
  target = problem.gradients(x) / (n * w)[:, None]
  sent = compress(target)
  error = float(w @ ((sent - target) ** 2).sum(1))
  iterates, squares = np.empty((steps, d)), np.empty(steps)
  for t in range(steps):
    iterates[t] = x
    squares[t] = np.sum((w @ target) ** 2)
    x = x - step * (w @ sent)
    target = problem.gradients(x) / (n * w)[:, None]
    sent = sent + compress(target - sent)
  return Run(iterates, squares, error)


def step_sizes(problem: Problem, alpha: float) -> tuple[float, float, float]:
  """The old and the new theory's largest step, and xi(alpha)."""
  root = np.sqrt(1 - alpha)
  xi = root / (1 - root)
  smooth, each = problem.smoothness()
  quadratic = float(np.sqrt(np.mean(each**2)))
  return (
    1 / (smooth + quadratic * xi),
    1 / (smooth + float(each.mean()) * xi),
    xi,
  )


def runs() -> tuple[Problem, dict[str, tuple[float, Run]]]:
  """name -> (step, run) under Top-1."""
  problem = quadratics()
  old, new, _ = step_sizes(problem, 1 / problem.centres.shape[1])
  _, each = problem.smoothness()
  w = each / each.sum()
  return problem, {
    "EF21, old step": (old, ef21(problem, old, top_1)),
    "EF21, new step": (new, ef21(problem, new, top_1)),
    "EF21-W, new step": (new, ef21(problem, new, top_1, w)),
  }


def bound(problem: Problem, step: float, run: Run, alpha: float) -> float:
  """2 (f(x_0) - f*) / (step T) + G_0 / (theta T): of the mean |grad f|^2."""
  t = len(run.squares)
  drop = problem.value(run.iterates[0]) - problem.minimum()
  theta = 1 - np.sqrt(1 - alpha)
  return 2 * drop / (step * t) + run.start_error / (theta * t)


def ef21_claims() -> list[Claim]:
  """Steps, identical iterates, bounds."""
  problem, found = runs()
  alpha = 1 / problem.centres.shape[1]
  old, new, xi = step_sizes(problem, alpha)
  same, weighted = (found[f"{k}, new step"][1] for k in ("EF21", "EF21-W"))
  size = np.abs(same.iterates).max()
  apart = np.abs(same.iterates - weighted.iterates).max() / size
  _, each = problem.smoothness()
  w = each / each.sum()
  rounded = [ef21(problem, new, powers_of_two, x, 300) for x in (None, w)]
  differ = np.abs(rounded[0].iterates - rounded[1].iterates).max() / size
  bounded = {
    name: (float(run.squares.mean()), bound(problem, step, run, alpha))
    for name, (step, run) in found.items()
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
      "under Top-K, EF21-W's iterates are EF21's",
      f"{STEPS} steps: relative difference {apart:.1g}",
      apart < 1e-12,
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
  """All rows."""
  return p3o_claims() + ef21_claims()


def draw():
  """Variance over the shift of rewards; EF21's gradients over steps."""
  title = "Pairs cancel a shift of rewards; a longer step is all of EF21-W"
  figure = new_figure(10.5, 4, title)
  variance, descent = figure.subplots(1, 2)
  shifts = np.linspace(-10, 10, 21)
  at = [bandit(REWARDS + shift) for shift in shifts]
  for name, colour in (("REINFORCE", PALETTE[1]), ("P3O", PALETTE[0])):
    heights = [x[name].variance for x in at]
    variance.plot(shifts, heights, color=colour, label=name)
  variance.set(yscale="log", xlabel="added to every reward")
  variance.set_ylabel("variance (trace), 4 draws")
  variance.set_title("Six arms, enumerated")
  variance.legend(frameon=False)
  _, found = runs()
  looks = ((PALETTE[1], "-", 1.8), (PALETTE[5], "-", 4), (PALETTE[0], "--", 1.8))
  for (name, (step, run)), (colour, dashes, width) in zip(found.items(), looks):
    mean = np.cumsum(run.squares) / np.arange(1, STEPS + 1)
    label = f"{name} {step:.3f}"
    style = {"color": colour, "linestyle": dashes, "linewidth": width}
    descent.plot(np.arange(1, STEPS + 1), mean, label=label, **style)
  descent.set(xscale="log", yscale="log", xlabel="step")
  descent.set_ylabel("mean |grad f|^2 so far")
  descent.set_title("20 workers, Top-1 compression")
  descent.legend(frameon=False)
  return figure


if __name__ == "__main__":
  out = out_folder(__doc__)
  title = "Estimators of gradients"
  sys.exit(report("estimators", title, claims(), draw, out))
