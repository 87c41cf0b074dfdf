"""Runs a solver on a game and measures every iterate."""

import functools
import math
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign.games import equilibria, matrix
from jalign.games.solvers import Game, Schedule, Solver
from jalign.games.validity import check_policy
from jalign.types import Array


class Trajectory(NamedTuple):
  """What `run` has recorded; entry 0 of each curve is the start.

  Attributes:
    policy: [n] the last iterate.
    average: [n] the mean of all iterates, the start included.
    kl: [steps + 1] KL(Nash, iterate) in nats.
    exploitability: [steps + 1] exploitability of the iterate.
    average_kl: [steps + 1] KL(Nash, mean of the iterates so far) in nats.
    average_exploitability: [steps + 1] exploitability of that mean.
  """

  policy: Array
  average: Array
  kl: Array
  exploitability: Array
  average_kl: Array
  average_exploitability: Array


@functools.lru_cache
def _constant(size: float) -> Schedule:
  return lambda t: jnp.full_like(t, size)


@matrix.in_float64
def run(
  solver: Solver,
  preferences: Array,
  reference: Array | None = None,
  tau: float | None = None,
  *,
  steps: int,
  step_size: float | Schedule,
  start: Array | None = None,
  equilibrium: Array | None = None,
  key: Array | None = None,
) -> Trajectory:
  """Runs a solver and measures every iterate.

  Where the step size is a constant above the bound up to which the method
  contracts near this game's equilibrium, a warning gives the bound.

  Args:
    solver: a solver of `jalign.games.solvers`.
    preferences: [n, n] P(row is preferred to column).
    reference: [n] probabilities, all positive; None for the plain game.
    tau: strength of the pull to the reference, > 0; None for the plain game.
    steps: number of steps to take.
    step_size: a number, or a function of the step's number.
    start: [n] first policy, all positive; the reference (or uniform) by
      default.
    equilibrium: [n] Nash equilibrium to measure KL from; computed by default.
    key: PRNG key for solvers that sample; a fixed key by default.

  Returns:
    Trajectory.

  Raises:
    UserError: the input is bad.
  """
  preferences = matrix.as_game(preferences, reference, tau)
  n = preferences.shape[-1]
  plain = reference is None or tau is None
  uniform = jnp.full(n, 1 / n, jnp.float64)
  base = uniform if plain else jnp.asarray(reference, jnp.float64)
  if equilibrium is None:
    equilibrium = (
      equilibria.nash(preferences)
      if plain
      else equilibria.regularized_nash(preferences, base, tau)
    )
  start = base if start is None else jnp.asarray(start, jnp.float64)
  check_policy(start, "start")
  strength = jnp.asarray(0.0 if plain else tau, jnp.float64)
  if not callable(step_size):
    check_step(solver, preferences, equilibrium, float(strength), step_size)
    schedule = _constant(float(step_size))
  else:
    schedule = step_size
  game = Game(preferences, jnp.log(base), strength)
  return _scan(
    solver,
    schedule,
    game,
    jnp.log(start),
    jnp.asarray(equilibrium, jnp.float64),
    jax.random.key(0) if key is None else key,
    steps,
    plain,
  )


@functools.partial(jax.jit, static_argnums=(0, 1, 6, 7))
def _scan(solver, schedule, game, start, equilibrium, key, steps, plain):
  reference = None if plain else jnp.exp(game.log_reference)
  tau = None if plain else game.tau

  def measured(policy):
    at = (game.preferences, reference, tau)
    distance = matrix.kl(equilibrium, policy)
    return distance, matrix.gain(policy, *at)

  def body(carry, t):
    state, total = carry
    size = jnp.asarray(schedule(t.astype(jnp.float64)), jnp.float64)
    state = solver.step(state, game, size, jax.random.fold_in(key, t))
    policy = jnp.exp(solver.policy(state))
    total = total + policy
    mean = total / (t + 2.0)
    return (state, total), (*measured(policy), *measured(mean))

  first = jnp.exp(start)
  carry = (solver.init(start), first)
  (state, total), rows = jax.lax.scan(body, carry, jnp.arange(steps))
  at_start = (*measured(first), *measured(first))
  curves = [jnp.append(x[None], y) for x, y in zip(at_start, rows)]
  last = jnp.exp(solver.policy(state))
  return Trajectory(last, total / (steps + 1.0), *curves)


def rotation_rates(preferences: Array, policy: Array) -> np.ndarray:
  """Rates omega at which win rates rotate small deviations from a policy.

  The eigenvalues of P (diag(policy) - policy policy^T) are +-i omega. All omega
  are 0 in a transitive game; rock-paper-scissors with margins d has
  omega = d / sqrt(3).

  Args:
    preferences: [n, n] P(row is preferred to column).
    policy: [n] probabilities.

  Returns:
    [n] rates >= 0.
  """
  p, q = np.asarray(preferences, np.float64), np.asarray(policy, np.float64)
  slope = (p - (p @ q)[:, None]) * q
  return np.abs(np.linalg.eigvals(slope).imag)


def check_step(
  solver: Solver,
  preferences: Array,
  equilibrium: Array,
  tau: float,
  step_size: float,
) -> float | None:
  """Warns where a constant step size doesn't contract near the equilibrium.

  Args:
    solver: the method; it isn't checked if it has no `ratio`.
    preferences: [n, n] P(row is preferred to column); games with n > 1024
      aren't checked.
    equilibrium: [n] probabilities.
    tau: strength of the pull to the reference, 0 for the plain game.
    step_size: the constant step size.

  Returns:
    The bound: every mode contracts for step sizes between 0 and the bound. None
    where nothing was checked.
  """
  if solver.ratio is None or len(equilibrium) > 1024:
    return None
  rates = rotation_rates(preferences, equilibrium)
  worst = lambda a: float(np.max(solver.ratio(a, tau, rates)))
  if not worst(1e-6) < 1:
    bound = 0.0
  else:
    grid = np.geomspace(1e-6, max(1e3, 4 / tau), 400)
    beyond = next((a for a in grid if worst(a) >= 1), math.inf)
    bound = beyond
    if math.isfinite(beyond):
      low, high = beyond / (grid[1] / grid[0]), beyond
      for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if worst(middle) < 1 else (low, middle)
      bound = low
  if step_size > bound:
    warnings.warn(
      f"step_size {step_size:g} lies above {bound:.4g}, up to which steps"
      " contract near the equilibrium of this game: iterates may orbit it.",
      stacklevel=4,
    )
  return bound
