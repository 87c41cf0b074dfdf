"""Equilibria of preference games over n actions, in float64."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.games import plain_nash
from jalign.games.matrix import as_game, floats, in_float64, product
from jalign.types import Array

# Above this many actions a direct Newton step, which takes n^3 operations, is
# too slow.
_DENSE = 512


@in_float64
def regularized_nash(
  preferences: Array,
  reference: Array,
  tau: float | Array,
  *,
  tolerance: float = 1e-12,
  max_steps: int = 1_000_000,
) -> Array:
  """The Nash equilibrium of a regularised game, which is unique.

  It is the fixed point policy ~ reference * exp(P policy / tau) (Munos et al.
  2023, arXiv:2312.00886, proposition 1). The solver takes mirror-prox steps of
  step size 2, which contract for every tau, and Newton steps for the last
  digits: direct steps for up to a few hundred actions, and GMRES for more.
  Mirror prox continues from a Newton step only where KL(Nash, policy) can't
  have risen by that step.

  Args:
    preferences: [..., n, n] P(row is preferred to column).
    reference: [..., n] probabilities, all positive.
    tau: strength of the pull to the reference, > 0, one number for all
      contexts.
    tolerance: largest difference of log policy and log BR(policy), nats. For
      tau below 1e-3 it is multiplied by 1e-3 / tau, because rounding of P / tau
      is larger. A tolerance below 1e-13 may not be reached.
    max_steps: largest number of mirror-prox steps, each of which takes two
      products with `preferences`.

  Returns:
    [..., n] probabilities.

  Raises:
    UserError: the input is bad, or the solver doesn't converge. Checked where
      values are concrete, not while they are traced.
  """
  preferences = as_game(preferences, reference, tau)
  (reference,) = floats(reference)
  policy, error, scale = _solve(
    preferences, reference, tau, tolerance, max_steps
  )
  _raise_unless_solved(error, tolerance * scale, max_steps)
  return policy


class _Point(NamedTuple):
  """An iterate, and what follows from its product with the preferences.

  Attributes:
    theta: [..., n] log policy.
    wins: [..., n] P(y > policy).
    residual: [..., n] log policy less log BR(policy).
    error: [...] largest residual, nats.
  """

  theta: Array
  wins: Array
  residual: Array
  error: Array


def _choose(first: Array, a: _Point, b: _Point) -> _Point:
  """Takes `a` in the contexts where `first` [...] is True, else `b`."""
  wide = first[..., None]
  pick = lambda x, y: jnp.where(first if x.ndim == first.ndim else wide, x, y)
  return jax.tree.map(pick, a, b)


@functools.partial(jax.jit, static_argnames=("max_steps",))
def _solve(preferences, reference, tau, tolerance, max_steps):
  """The policy, its largest error in nats, and the tolerance's factor."""
  log_ref = jnp.log(reference)
  n = reference.shape[-1]
  # Rounding of P(y > policy) / tau is larger for small tau, and no step can
  # make the error smaller than that rounding.
  scale = jnp.maximum(1.0, 1e-3 / jnp.asarray(tau, jnp.float64))

  step = 2.0
  shrink = 1 / (1 + step * tau)

  # Products with the preferences take most of the time, so that everything that
  # follows from a product is computed at once.
  def measured(theta):
    wins = product(preferences, jax.nn.softmax(theta))
    residual = theta - jax.nn.log_softmax(log_ref + wins / tau)
    return _Point(theta, wins, residual, jnp.max(jnp.abs(residual), -1))

  def prox(theta, wins):
    return jax.nn.log_softmax(shrink * (theta + step * (tau * log_ref + wins)))

  def mirror_prox(_, point):
    half = jax.nn.softmax(prox(point.theta, point.wins))
    return measured(prox(point.theta, product(preferences, half)))

  def newton(_, point):
    policy = jax.nn.softmax(point.theta)
    if n <= _DENSE:
      # d (P policy) / d theta: column j is policy_j (P_j - P policy)
      slope = preferences - point.wins[..., None]
      slope = slope * policy[..., None, :] / tau
      move = jnp.linalg.solve(jnp.eye(n) - slope, point.residual[..., None])
      move = move[..., 0]
    else:

      def system(v):
        weighted = policy * v
        mean = point.wins * jnp.sum(weighted, -1, keepdims=True)
        return v - (product(preferences, weighted) - mean) / tau

      move, _ = jax.scipy.sparse.linalg.gmres(
        system, point.residual, tol=1e-4, restart=12, maxiter=1,
        solve_method="incremental",
      )  # fmt: skip
    moved = measured(jax.nn.log_softmax(point.theta - move))
    # The comparison is False where the error is NaN.
    return _choose(moved.error < point.error, moved, point)

  block = 16 if n <= _DENSE else 4

  def body(carry):
    """Mirror prox moves `point`; Newton's method moves `tried`."""
    point, tried, best, steps = carry
    point = jax.lax.fori_loop(0, block, mirror_prox, point)
    start = _choose(tried.error < point.error, tried, point)
    tried = jax.lax.fori_loop(0, 2, newton, start)
    best = _choose(tried.error < best.error, tried, best)
    point = _choose(_is_nearer(tried, point), tried, point)
    # Where two Newton steps gain little, they start again from the point.
    tried = _choose(tried.error < start.error / 2, tried, point)
    return point, tried, best, steps + block

  def going(carry):
    *_, best, steps = carry
    return jnp.any(best.error > tolerance * scale) & (steps < max_steps)

  first = measured(log_ref)
  *_, best, _ = jax.lax.while_loop(going, body, (first, first, first, 0))
  return jax.nn.softmax(best.theta), jnp.max(best.error), scale


def _is_nearer(a: _Point, b: _Point) -> Array:
  """[...] whether KL(Nash, a) <= KL(Nash, b) can be proved; False otherwise.

  Let s be the range of a's residual and TV the total-variation distance. As
  P + P^T = 1, KL(a, Nash) + KL(Nash, a) is the sum of (a - Nash) residual over
  the actions, which is at most s TV(a, Nash). Each KL is at least 2 TV^2
  (Pinsker), so that TV(a, Nash) <= s / 4 and
  KL(Nash, a) <= s TV - 2 TV^2 <= s^2 / 8. And
  KL(Nash, b) >= 2 (TV(a, b) - s / 4)^2, which is at least s^2 / 8 if
  TV(a, b) >= s / 2.
  """
  distance = jnp.abs(jax.nn.softmax(a.theta) - jax.nn.softmax(b.theta))
  return jnp.sum(distance, -1) >= jnp.ptp(a.residual, -1)


def _raise_unless_solved(error, tolerance, max_steps):
  if isinstance(error, jax.core.Tracer) or bool(error <= tolerance):
    return
  raise UserError(
    f"no equilibrium within {max_steps} steps: log policy is"
    f" {float(error):.2g} nats from its best response.",
    where="regularized_nash",
    remedy="Use a larger tau or max_steps.",
  )


@in_float64
def nash(preferences: Array) -> Array:
  """A Nash equilibrium of the game without a reference.

  It is computed on the host by SciPy's non-negative least squares, which also
  solves nearly degenerate games. Where there are many equilibria, the result is
  a vertex of their set, up to rounding: which vertex isn't defined, and games
  that differ only in their last digits may give equilibria far apart.

  Args:
    preferences: [..., n, n] P(row is preferred to column).

  Returns:
    [..., n] probabilities, whose `exploitability` is at most 1e-12.

  Raises:
    UserError: the input is bad, or no such policy was found. Where values are
      traced there is no error, and a policy that wasn't found is NaN.
  """
  preferences = as_game(preferences)
  # The numbers cross as bits: where a compiled program runs with JAX's x64 flag
  # off, a callback would take and return float32.
  bits = jax.pure_callback(
    _solve_bits,
    jax.ShapeDtypeStruct((*preferences.shape[:-1], 2), jnp.uint32),
    jax.lax.bitcast_convert_type(preferences, jnp.uint32),
    vmap_method="expand_dims",
  )
  policy = jax.lax.bitcast_convert_type(bits, jnp.float64)
  if not isinstance(policy, jax.core.Tracer) and jnp.isnan(policy).any():
    raise UserError(
      f"no policy found that no action beats by more than {plain_nash.GAIN:g}.",
      where="nash",
      remedy="regularized_nash with a small tau approximates an equilibrium.",
    )
  return policy


def _solve_bits(preferences: Any) -> np.ndarray:
  """`plain_nash.solve`, with float64 as two uint32 on a last axis of size 2."""
  bits = np.ascontiguousarray(preferences)
  policies = plain_nash.solve(bits.view(np.float64)[..., 0])
  return policies[..., None].view(np.uint32)
