"""Preference games over n actions, exactly and in float64.

A game is `preferences` [..., n, n], P(row is preferred to column), with
P + P^T = 1. Leading axes are contexts (prompts), each its own game; policies
and references are probabilities [..., n]. Regularised games add the pull to a
reference, of strength `tau`:

  payoff(p, q) = p^T P q - tau KL(p, reference) + tau KL(q, reference).

Munos et al. 2023, "Nash Learning from Human Feedback", arXiv:2312.00886.

Every function computes in float64 whatever the flag of JAX, takes concrete
arrays or traced ones, and vmaps; ranges are checked where values are concrete.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from jalign.errors import UserError
from jalign.games import linear_program
from jalign.games.checks import check_game, check_policy
from jalign.types import Array

# Above this many actions a direct Newton step's n^3 costs too much.
_DENSE = 512


def in_float64(f: Callable[..., Any]) -> Callable[..., Any]:
  """`f` within a float64 scope."""

  @functools.wraps(f)
  def scoped(*args, **kwargs):
    with jax.enable_x64(True):
      return f(*args, **kwargs)

  return scoped


def _floats(*arrays: Any) -> tuple[Array, ...]:
  return tuple(jnp.asarray(x, jnp.float64) for x in arrays)


def _win_rates(preferences: Array, policy: Array) -> Array:
  """P(y > policy) of every action y: [..., n]."""
  return jnp.einsum("...ij,...j->...i", preferences, policy)


@in_float64
def win_rates(preferences: Array, policy: Array) -> Array:
  """P(y > policy), how often each action beats a policy.

  Args:
    preferences: [..., n, n].
    policy: [..., n] probabilities.

  Returns:
    [..., n].
  """
  check_game(preferences)
  check_policy(policy)
  return _win_rates(*_floats(preferences, policy))


@in_float64
def kl(policy: Array, other: Array) -> Array:
  """KL(policy || other) in nats, [...]; 0 log 0 is 0."""
  policy, other = _floats(policy, other)
  return jnp.sum(xlogy(policy, policy) - xlogy(policy, other), -1)


@in_float64
def regularized_payoff(
  policy: Array,
  opponent: Array,
  preferences: Array,
  reference: Array,
  tau: float | Array,
) -> Array:
  """P(policy > opponent) - tau KL(policy, ref) + tau KL(opponent, ref).

  Munos et al. 2023, arXiv:2312.00886, section 5.

  Args:
    policy: [..., n] probabilities.
    opponent: [..., n] probabilities.
    preferences: [..., n, n].
    reference: [..., n], all positive.
    tau: > 0.

  Returns:
    [...]; payoff(p, q) + payoff(q, p) = 1.
  """
  check_game(preferences, reference, tau)
  check_policy(policy)
  check_policy(opponent)
  args = _floats(policy, opponent, preferences, reference)
  policy, opponent, preferences, reference = args
  wins = jnp.sum(policy * _win_rates(preferences, opponent), -1)
  pull = kl(opponent, reference) - kl(policy, reference)
  return wins + tau * pull


@in_float64
def best_response(
  policy: Array, preferences: Array, reference: Array, tau: float | Array
) -> Array:
  """The policy of the highest regularised payoff against another.

  BR(policy) is proportional to reference * exp(P(. > policy) / tau).

  Args:
    policy: [..., n] probabilities.
    preferences: [..., n, n].
    reference: [..., n], all positive.
    tau: > 0.

  Returns:
    [..., n] probabilities.
  """
  check_game(preferences, reference, tau)
  check_policy(policy)
  policy, preferences, reference = _floats(policy, preferences, reference)
  return jax.nn.softmax(_response_logits(policy, preferences, reference, tau))


def _response_logits(policy, preferences, reference, tau):
  return jnp.log(reference) + _win_rates(preferences, policy) / tau


@in_float64
def exploitability(
  policy: Array,
  preferences: Array,
  reference: Array | None = None,
  tau: float | Array | None = None,
) -> Array:
  """What the best response wins beyond 1/2 against a policy: 0 at the Nash.

  With a reference it is max_p payoff(p, policy) - 1/2, computed in a form that
  keeps its digits near 0: tau KL(policy || BR(policy)). Without reference and
  tau it is max_y P(y > policy) - 1/2.

  Args:
    policy: [..., n] probabilities.
    preferences: [..., n, n].
    reference: [..., n], all positive; None for the unregularised game.
    tau: > 0; None for the unregularised game.

  Returns:
    [...] in units of preference, >= 0.
  """
  check_game(preferences, reference, tau)
  check_policy(policy)
  if reference is None or tau is None:
    policy, preferences = _floats(policy, preferences)
    return jnp.max(_win_rates(preferences, policy), -1) - 0.5
  policy, preferences, reference = _floats(policy, preferences, reference)
  logits = _response_logits(policy, preferences, reference, tau)
  gap = xlogy(policy, policy) - policy * jax.nn.log_softmax(logits)
  return jnp.maximum(tau * jnp.sum(gap, -1), 0.0)


@in_float64
def exploitability_by_value(
  policy: Array, preferences: Array, reference: Array, tau: float | Array
) -> Array:
  """`exploitability` as the value of the best response, its other closed form.

  tau log sum_y reference(y) exp(P(y > policy) / tau)
  + tau KL(policy, reference) - 1/2. Equal, but for rounding, which here is that
  of 1/2.
  """
  check_game(preferences, reference, tau)
  check_policy(policy)
  policy, preferences, reference = _floats(policy, preferences, reference)
  logits = _response_logits(policy, preferences, reference, tau)
  value = tau * jax.nn.logsumexp(logits, -1)
  return value + tau * kl(policy, reference) - 0.5


@in_float64
def duality_gap(
  policy: Array,
  opponent: Array,
  preferences: Array,
  reference: Array | None = None,
  tau: float | Array | None = None,
) -> Array:
  """max_p payoff(p, opponent) - min_q payoff(policy, q).

  The game is symmetric: this is the sum of both exploitabilities, and the gap
  of a policy with itself is twice its own (the measure of INPO and EGPO).

  Args:
    policy: [..., n] probabilities.
    opponent: [..., n] probabilities.
    preferences: [..., n, n].
    reference: [..., n], all positive; None for the unregularised game.
    tau: > 0; None for the unregularised game.

  Returns:
    [...] in units of preference, >= 0.
  """
  game = (preferences, reference, tau)
  return exploitability(policy, *game) + exploitability(opponent, *game)


@in_float64
def regularized_nash(
  preferences: Array,
  reference: Array,
  tau: float | Array,
  *,
  tolerance: float = 1e-12,
  max_steps: int = 1_000_000,
) -> Array:
  """The Nash equilibrium of a regularised game; it is unique.

  The fixed point policy ~ reference * exp(P policy / tau) (Munos et al. 2023,
  arXiv:2312.00886, proposition 1). Mirror-prox steps of payoff size 2, which
  contract for every tau, and Newton steps for the last digits: direct ones up
  to a few hundred actions, above that by GMRES.

  Args:
    preferences: [..., n, n].
    reference: [..., n], all positive.
    tau: > 0, one for all contexts.
    tolerance: largest error of log policy against log BR(policy), nats.
    max_steps: of mirror prox, two products with `preferences` each.

  Returns:
    [..., n] probabilities.

  Raises:
    UserError: bad input, or no convergence (where values are concrete).
  """
  check_game(preferences, reference, tau)
  preferences, reference = _floats(preferences, reference)
  policy, error, scale = _solve(
    preferences, reference, tau, tolerance, max_steps
  )
  _raise_unless_solved(error, tolerance * scale, max_steps)
  return policy


@functools.partial(jax.jit, static_argnames=("max_steps",))
def _solve(preferences, reference, tau, tolerance, max_steps):
  """Policy, its largest error in nats, and the digits that error has."""
  log_ref = jnp.log(reference)
  n = reference.shape[-1]
  # Rounding of P(y > policy) / tau, which no step can undercut.
  scale = jnp.maximum(1.0, 1e-3 / jnp.asarray(tau, jnp.float64))

  step = 2.0
  shrink = 1 / (1 + step * tau)

  # A product with the preferences is what costs: each is used for all it tells.
  def measured(theta):
    wins = _win_rates(preferences, jax.nn.softmax(theta))
    residual = theta - jax.nn.log_softmax(log_ref + wins / tau)
    return theta, wins, residual, jnp.max(jnp.abs(residual))

  def prox(theta, wins):
    return jax.nn.log_softmax(shrink * (theta + step * (tau * log_ref + wins)))

  def mirror_prox(_, point):
    theta, wins, *_ = point
    half = jax.nn.softmax(prox(theta, wins))
    return measured(prox(theta, _win_rates(preferences, half)))

  def newton(_, point):
    theta, wins, residual, error = point
    policy = jax.nn.softmax(theta)
    if n <= _DENSE:
      # d P policy / d theta, columns P_j policy_j less the mean
      slope = (preferences - wins[..., None]) * policy[..., None, :] / tau
      move = jnp.linalg.solve(jnp.eye(n) - slope, residual[..., None])[..., 0]
    else:

      def system(v):
        weighted = policy * v
        mean = wins * jnp.sum(weighted, -1, keepdims=True)
        return v - (_win_rates(preferences, weighted) - mean) / tau

      move, _ = jax.scipy.sparse.linalg.gmres(
        system, residual, tol=1e-4, restart=12, maxiter=1,
        solve_method="incremental",
      )  # fmt: skip
    moved = measured(jax.nn.log_softmax(theta - move))
    better = moved[-1] < error  # False where it is NaN
    return jax.tree.map(lambda a, b: jnp.where(better, a, b), moved, point)

  block = 16 if n <= _DENSE else 4

  def body(carry):
    point, steps = carry
    point = jax.lax.fori_loop(0, block, mirror_prox, point)
    return jax.lax.fori_loop(0, 2, newton, point), steps + block

  def going(carry):
    return (carry[0][-1] > tolerance * scale) & (carry[1] < max_steps)

  (theta, *_, gap), _ = jax.lax.while_loop(going, body, (measured(log_ref), 0))
  return jax.nn.softmax(theta), gap, scale


def _raise_unless_solved(error, tolerance, max_steps):
  if isinstance(error, jax.core.Tracer) or bool(error <= tolerance):
    return
  raise UserError(
    f"no equilibrium within {max_steps} steps: log policy is"
    f" {float(error):.2g} nats from its best response.",
    where="regularized_nash",
    remedy="A larger tau or max_steps helps.",
  )


@in_float64
def nash(preferences: Array) -> Array:
  """A Nash equilibrium of the game without reference, to 1e-12.

  A linear program on the host (SciPy's HiGHS), then the exact solution on its
  support. Where equilibria are many it is a vertex of their set.

  Args:
    preferences: [..., n, n].

  Returns:
    [..., n] probabilities; `exploitability(policy, preferences)` is 0.
  """
  check_game(preferences)
  (preferences,) = _floats(preferences)
  return jax.pure_callback(
    linear_program.solve,
    jax.ShapeDtypeStruct(preferences.shape[:-1], jnp.float64),
    preferences,
    vmap_method="expand_dims",
  )
