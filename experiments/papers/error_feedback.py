"""EF21 and EF21-W on quadratics: workers send compressed differences.

Richtarik et al. 2024, "Error Feedback Reloaded: From Quadratic to Arithmetic
Mean of Smoothness Constants", arXiv:2402.10774.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Problem(NamedTuple):
  """f(x) = mean over workers i of (x - b_i)^T A_i (x - b_i) / 2.

  Attributes:
    hessians: [n, d, d] A_i.
    centres: [n, d] b_i.
  """

  hessians: np.ndarray
  centres: np.ndarray

  def gradients(self, x: np.ndarray) -> np.ndarray:
    """[n, d] gradients of the workers' functions."""
    return np.einsum("nij,nj->ni", self.hessians, x - self.centres)

  def value(self, x: np.ndarray) -> float:
    """f(x)."""
    return float(np.sum((x - self.centres) * self.gradients(x)) / 2) / len(
      self.centres
    )

  def minimum(self) -> float:
    """f*, the minimum, by a linear solve."""
    total = np.einsum("nij,nj->i", self.hessians, self.centres)
    return self.value(np.linalg.solve(self.hessians.sum(0), total))

  def smoothness(self) -> tuple[float, np.ndarray]:
    """(L of f, [n] L_i of the workers' functions)."""
    top = lambda a: np.linalg.eigvalsh(a)[..., -1]
    return float(top(self.hessians.mean(0))), top(self.hessians)


def quadratics(n: int = 20, d: int = 10, seed: int = 0) -> Problem:
  """A problem whose first worker has L = 10, and the others L = 0.01."""
  rng = np.random.default_rng(seed)
  turns = np.linalg.qr(rng.normal(size=(n, d, d)))[0]
  spectrum = np.linspace(0.1, 1, d) ** 2
  steep = np.where(np.arange(n) == 0, 10, 0.01)[:, None, None]
  hessians = steep * np.einsum("nij,j,nkj->nik", turns, spectrum, turns)
  return Problem(hessians, rng.normal(size=(n, d)))


def top_1(v: np.ndarray) -> np.ndarray:
  """Keeps each row's largest entry by size; alpha = 1 / d."""
  keep = np.abs(v).argmax(-1)[..., None]
  entries = np.zeros_like(v)
  np.put_along_axis(entries, keep, np.take_along_axis(v, keep, -1), -1)
  return entries


def powers_of_two(v: np.ndarray) -> np.ndarray:
  """Rounds each entry towards 0 to a power of two; alpha = 3 / 4."""
  mantissa, exponent = np.frexp(v)
  return np.ldexp(np.sign(mantissa) / 2, exponent)


class Run(NamedTuple):
  """A run of EF21.

  Attributes:
    iterates: [T, d].
    squares: [T] squared norms of the gradient.
    start_error: G at the start.
  """

  iterates: np.ndarray
  squares: np.ndarray
  start_error: float


def ef21(
  problem: Problem,
  step: float,
  compress: Callable[[np.ndarray], np.ndarray],
  weights: np.ndarray | None = None,
  steps: int = 3000,
) -> Run:
  """EF21 or, if the workers have weights, EF21-W.

  x+ = x - step sum_i w_i g_i,
  g_i+ = g_i + compress(grad f_i(x+) / (n w_i) - g_i)

  Args:
    problem: a problem with n workers in d dimensions; the start is 0.
    step: step size gamma.
    compress: [n, d] -> [n, d], a contractive compression.
    weights: [n] w_i, which sum to 1; equal by default, which is plain EF21.
    steps: number of steps T.

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
  """(largest step of the old theory, of the new theory, xi(alpha))."""
  root = np.sqrt(1 - alpha)
  xi = root / (1 - root)
  smooth, constants = problem.smoothness()
  quadratic = float(np.sqrt(np.mean(constants**2)))
  return (
    1 / (smooth + quadratic * xi),
    1 / (smooth + float(constants.mean()) * xi),
    xi,
  )
