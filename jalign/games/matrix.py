"""Preference games over n actions, exactly and in float64.

A game is `preferences` [..., n, n], P(row is preferred to column), with
P + P^T = 1. Leading axes are contexts (prompts), each its own game; policies
and references are probabilities [..., n]. Regularised games add the pull to a
reference, of strength `tau`:

  payoff(p, q) = p^T P q - tau KL(p, reference) + tau KL(q, reference).

Munos et al. 2023, "Nash Learning from Human Feedback", arXiv:2312.00886.

Every function computes in float64 whatever the flag of JAX, takes concrete
arrays or traced ones, and vmaps; ranges are checked where values are concrete.
What float32 leaves of P + P^T - 1, up to 1e-6, is removed: the game is
(P + 1 - P^T) / 2.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from jalign.games.validity import check_game, check_policy
from jalign.types import Array


def in_float64(f: Callable[..., Any]) -> Callable[..., Any]:
  """`f` within a float64 scope."""

  @functools.wraps(f)
  def scoped(*args, **kwargs):
    with jax.enable_x64(True):
      return f(*args, **kwargs)

  return scoped


def floats(*arrays: Any) -> tuple[Array, ...]:
  """The arrays in float64."""
  return tuple(jnp.asarray(x, jnp.float64) for x in arrays)


def as_game(preferences: Any, *others: Any) -> Array:
  """[..., n, n] preferences in float64 with P + P^T = 1 to the last digits.

  Args:
    preferences: [..., n, n].
    *others: reference and tau of the game, which are checked with it.

  Raises:
    UserError: bad input (where values are concrete).
  """
  exact = check_game(preferences, *others)
  (preferences,) = floats(preferences)
  return preferences if exact else _antisymmetric(preferences)


@jax.jit
def _antisymmetric(preferences):
  return 0.5 + (preferences - jnp.swapaxes(preferences, -1, -2)) / 2


def product(preferences: Array, policy: Array) -> Array:
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
  preferences = as_game(preferences)
  check_policy(policy)
  return product(preferences, *floats(policy))


@in_float64
def kl(policy: Array, other: Array) -> Array:
  """KL(policy || other) in nats, [...]; 0 log 0 is 0."""
  policy, other = floats(policy, other)
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
  preferences = as_game(preferences, reference, tau)
  check_policy(policy)
  check_policy(opponent)
  policy, opponent, reference = floats(policy, opponent, reference)
  wins = jnp.sum(policy * product(preferences, opponent), -1)
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
  preferences = as_game(preferences, reference, tau)
  check_policy(policy)
  policy, reference = floats(policy, reference)
  return jax.nn.softmax(_response_logits(policy, preferences, reference, tau))


def _response_logits(policy, preferences, reference, tau):
  return jnp.log(reference) + product(preferences, policy) / tau


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
  preferences = as_game(preferences, reference, tau)
  check_policy(policy)
  return gain(policy, preferences, reference, tau)


def gain(policy, preferences, reference, tau) -> Array:
  """`exploitability` of a game that `as_game` made."""
  (policy,) = floats(policy)
  if reference is None or tau is None:
    # Of margins, so that a policy that sums to 1 + 1e-7 gains nothing by it.
    wins = jnp.max(product(preferences, policy), -1)
    return jnp.maximum(wins - jnp.sum(policy, -1) / 2, 0.0)
  (reference,) = floats(reference)
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
  preferences = as_game(preferences, reference, tau)
  check_policy(policy)
  policy, reference = floats(policy, reference)
  logits = _response_logits(policy, preferences, reference, tau)
  value = tau * jax.nn.logsumexp(logits, -1)
  return jnp.maximum(value + tau * kl(policy, reference) - 0.5, 0.0)


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
