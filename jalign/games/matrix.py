"""Exact functions of preference games over n actions, in float64.

A game is `preferences` [..., n, n], P(row is preferred to column), with
P + P^T = 1. Leading axes are contexts (prompts), each of which is a game;
policies and references are probabilities [..., n]. A regularised game adds a
pull to a reference, of strength `tau`:

  payoff(p, q) = p^T P q - tau KL(p, reference) + tau KL(q, reference).

Munos et al. 2023, "Nash Learning from Human Feedback", arXiv:2312.00886.

Every function computes in float64 whatever JAX's x64 flag is, takes concrete or
traced arrays, and can be vmapped. Ranges are checked where values are concrete.
P + P^T may differ from 1 by up to 1e-6, as float32 does; the difference is
removed by taking (P + 1 - P^T) / 2 as the game.
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
  """Wraps a function so that JAX computes in float64 inside the function."""

  @functools.wraps(f)
  def scoped(*args, **kwargs):
    with jax.enable_x64(True):
      return f(*args, **kwargs)

  return scoped


def floats(*arrays: Any) -> tuple[Array, ...]:
  """Casts arrays to float64."""
  return tuple(jnp.asarray(x, jnp.float64) for x in arrays)


def as_game(preferences: Any, *others: Any) -> Array:
  """Checks a game and returns it in float64, with P + P^T = 1 up to rounding.

  Args:
    preferences: [..., n, n] P(row is preferred to column).
    *others: reference and tau of the game, which are checked too.

  Returns:
    [..., n, n] preferences.

  Raises:
    UserError: the input is bad (checked where values are concrete).
  """
  exact = check_game(preferences, *others)
  (preferences,) = floats(preferences)
  return preferences if exact else _antisymmetric(preferences)


@jax.jit
def _antisymmetric(preferences):
  return 0.5 + (preferences - jnp.swapaxes(preferences, -1, -2)) / 2


def product(preferences: Array, policy: Array) -> Array:
  """P(y > policy) [..., n] for every action y, in the inputs' float type."""
  return jnp.einsum("...ij,...j->...i", preferences, policy)


@in_float64
def win_rates(preferences: Array, policy: Array) -> Array:
  """P(y > policy): how often each action y beats a policy.

  Args:
    preferences: [..., n, n] P(row is preferred to column).
    policy: [..., n] probabilities.

  Returns:
    [..., n] probabilities of winning.

  Raises:
    UserError: the input is bad (checked where values are concrete).
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
    preferences: [..., n, n] P(row is preferred to column).
    reference: [..., n] probabilities, all positive.
    tau: strength of the pull to the reference, > 0.

  Returns:
    [...] payoffs of the policy; payoff(p, q) + payoff(q, p) = 1.

  Raises:
    UserError: the input is bad (checked where values are concrete).
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
  """The policy with the highest regularised payoff against a given policy.

  BR(policy) is proportional to reference * exp(P(. > policy) / tau).

  Args:
    policy: [..., n] probabilities of the given policy, the opponent.
    preferences: [..., n, n] P(row is preferred to column).
    reference: [..., n] probabilities, all positive.
    tau: strength of the pull to the reference, > 0.

  Returns:
    [..., n] probabilities.

  Raises:
    UserError: the input is bad (checked where values are concrete).
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
  """What the best response wins beyond 1/2 against a policy.

  It is 0 at the Nash equilibrium. In a regularised game it is
  max_p payoff(p, policy) - 1/2, computed as tau KL(policy || BR(policy)), which
  is exact near 0. Without reference and tau it is max_y P(y > policy) - 1/2.

  Args:
    policy: [..., n] probabilities.
    preferences: [..., n, n] P(row is preferred to column).
    reference: [..., n] probabilities, all positive; None for the unregularised
      game.
    tau: strength of the pull to the reference, > 0; None for the unregularised
      game.

  Returns:
    [...] in units of preference, >= 0.

  Raises:
    UserError: the input is bad (checked where values are concrete).
  """
  preferences = as_game(preferences, reference, tau)
  check_policy(policy)
  return gain(policy, preferences, reference, tau)


def gain(policy, preferences, reference, tau) -> Array:
  """`exploitability` of a game that `as_game` has returned, without checks."""
  (policy,) = floats(policy)
  if reference is None or tau is None:
    # Half of the policy's sum is subtracted, so that a policy that sums to
    # 1 + 1e-7 isn't measured wrongly.
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
  """`exploitability` of a regularised game by another closed form.

  tau log sum_y reference(y) exp(P(y > policy) / tau)
  + tau KL(policy, reference) - 1/2. The result equals `exploitability` up to
  rounding, which here is as large as the rounding of 1/2. For arguments and
  errors see `exploitability`.
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

  As the game is symmetric, this is the sum of both players' exploitabilities.
  INPO and EGPO measure the gap of a policy with itself, which is twice its
  exploitability.

  Args:
    policy: [..., n] probabilities.
    opponent: [..., n] probabilities.
    preferences: [..., n, n] P(row is preferred to column).
    reference: [..., n] probabilities, all positive; None for the unregularised
      game.
    tau: strength of the pull to the reference, > 0; None for the unregularised
      game.

  Returns:
    [...] in units of preference, >= 0.

  Raises:
    UserError: the input is bad (checked where values are concrete).
  """
  game = (preferences, reference, tau)
  return exploitability(policy, *game) + exploitability(opponent, *game)
