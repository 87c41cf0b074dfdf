"""Exact equilibria: many small games at once, and one large game.

Both are compared with a plain NumPy loop of Nash Mirror Prox (payoff step 2)
that ends at the same error: a log policy within 1e-10 nats of its best
response. The loop takes the games one by one. `regularized_nash` takes them all
at once, adds Newton steps, and checks its input; its time includes that check.

  python -m experiments.bench.games

Cost: 2 min and 2.5 GB on 2 CPU cores.
"""

import platform
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from jalign.games import regularized_nash

_GAMES = flags.DEFINE_integer(
  "games", 1024, "number of small games", lower_bound=1
)
_ACTIONS = flags.DEFINE_integer(
  "actions", 32, "actions of each small game", lower_bound=2
)
_LARGE = flags.DEFINE_integer(
  "large", 10_000, "actions of the large game", lower_bound=2
)
_TAU = flags.DEFINE_float("tau", 0.1, "weight of the KL", lower_bound=1e-6)
_REPEATS = flags.DEFINE_integer(
  "repeats", 3, "runs of each; their median counts", lower_bound=1
)
TOLERANCE = 1e-10


def random_game(rng: np.random.Generator, n: int) -> np.ndarray:
  """[n, n] logistic preferences of a random antisymmetric matrix."""
  a = rng.normal(size=(n, n))
  a -= a.T.copy()
  np.negative(a, out=a)
  np.exp(a, out=a)
  a += 1
  np.reciprocal(a, out=a)
  return a


def numpy_nash(preferences, reference, tau, step=2.0):
  """The policy, and the number of iterations, of Nash Mirror Prox."""

  def normalized(x):
    top = x.max()
    return x - top - np.log(np.exp(x - top).sum())

  log_ref = np.log(reference)
  theta, shrink, count = log_ref, 1 / (1 + step * tau), 0

  def moved(theta, wins):
    return normalized(shrink * (theta + step * (tau * log_ref + wins)))

  while True:
    wins = preferences @ np.exp(theta)
    if np.abs(theta - normalized(log_ref + wins / tau)).max() <= TOLERANCE:
      return np.exp(theta), count
    half = moved(theta, wins)
    theta = moved(theta, preferences @ np.exp(half))
    count += 1


def timed(f: Callable[[], np.ndarray], repeats: int):
  """The result of a function, and the median seconds of several calls."""
  seconds = []
  for _ in range(repeats):
    start = time.perf_counter()
    result = f()
    seconds.append(time.perf_counter() - start)
  return result, statistics.median(seconds)


def compare(title: str, plain, ours) -> None:
  """Times both solvers, one after the other, and prints a Markdown row."""
  ours()  # compiles before the clock starts
  (want, counts), slow = timed(plain, _REPEATS.value)
  got, fast = timed(ours, _REPEATS.value)
  error = np.abs(np.log(got) - np.log(want)).max()
  if not error < 1e-8:
    raise AssertionError(f"{title}: results differ by {error} nats")
  print(
    f"| {title} | {slow:.3g} s | {fast:.3g} s | {slow / fast:.1f}x |"
    f" {np.mean(counts):.0f} | {error:.0e} |",
    flush=True,
  )


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  rng, tau = np.random.default_rng(0), _TAU.value
  print(f"{platform.machine()}, jax {jax.__version__}, tau = {tau}")
  print("| games | NumPy loop | jalign | ratio | iterations | differ (nats) |")
  print("| --- | --- | --- | --- | --- | --- |")

  def solve(preferences, references):
    with jax.enable_x64(True):
      given = jnp.asarray(preferences), jnp.asarray(references)
    return lambda: np.asarray(
      regularized_nash(*given, tau, tolerance=TOLERANCE)
    )

  n = _ACTIONS.value
  games = np.stack([random_game(rng, n) for _ in range(_GAMES.value)])
  references = rng.dirichlet(np.full(n, 5.0), _GAMES.value)

  def one_by_one():
    solutions = [numpy_nash(p, mu, tau) for p, mu in zip(games, references)]
    return np.stack([x for x, _ in solutions]), [
      count for _, count in solutions
    ]

  compare(
    f"{_GAMES.value:,} of {n} actions", one_by_one, solve(games, references)
  )
  large, n = random_game(rng, _LARGE.value), _LARGE.value
  reference = rng.dirichlet(np.full(n, 5.0))
  compare(
    f"1 of {n:,} actions",
    lambda: numpy_nash(large, reference, tau),
    solve(large, reference),
  )


if __name__ == "__main__":
  app.run(main)
