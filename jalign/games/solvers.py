"""Solvers of preference games: pure steps on log-policies.

A `Solver` is a record of functions, as in optax: `init(log_policy) -> state`
and `step(state, game, step_size, key) -> state`; `policy(state)` is the last
iterate. `jalign.games.run` takes the steps, in float64. Calling a method's
function again returns the same `Solver`, so that its runs share a compiled
program.

Step sizes are in units of preference: log-policies move by
step_size * P(. > pi). INPO writes 1 / eta for the step size, Nash Mirror Prox
eta / beta. In the formulas below, eta (or a) is the step size and pi+ the next
policy.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jalign.types import Array

Schedule = Callable[[Array], Array]  # step's number (from 0) -> step size


class Game(NamedTuple):
  """The game that a solver's step takes.

  Attributes:
    preferences: [n, n] P(row is preferred to column).
    log_reference: [n] log-probs (nats) of the reference.
    tau: strength of the pull to the reference; 0 for the plain game.
  """

  preferences: Array
  log_reference: Array
  tau: Array

  def wins(self, log_policy: Array) -> Array:
    """[n] P(y > policy) for every action y."""
    return self.preferences @ jnp.exp(log_policy)

  def response(self, log_policy: Array) -> Array:
    """[n] log of the best response; for tau = 0 uniform over best actions."""
    wins = self.wins(log_policy)
    tau = jnp.where(self.tau > 0, self.tau, 1.0)
    soft = jax.nn.log_softmax(self.log_reference + wins / tau)
    hard = jnp.where(wins >= wins.max() - 1e-12, 0.0, -jnp.inf)
    return jnp.where(self.tau > 0, soft, jax.nn.log_softmax(hard))


class Solver(NamedTuple):
  """A method, as a record of functions.

  Attributes:
    init: `log_policy [n] -> state`.
    step: `(state, game, step_size, key) -> state`.
    policy: `state -> log_policy [n]`.
    ratio: `(step_size, tau, omega) -> factor` by which a step near the
      equilibrium multiplies KL(Nash, policy), along a mode that rotates at rate
      omega; None where there is no closed form.
  """

  init: Callable[[Array], Any]
  step: Callable[..., Any]
  policy: Callable[[Any], Array]
  ratio: Callable[..., Any] | None = None


def _of_policies(step, ratio=None) -> Solver:
  """Makes a solver whose state is the log-policy."""
  stateless = lambda x, game, size, key: jax.nn.log_softmax(step(x, game, size))
  return Solver(lambda x: x, stateless, lambda x: x, ratio)


@functools.lru_cache
def decaying(tau: float) -> Schedule:
  """Step sizes 2 / (tau (t + 2)), as in Nash-MD's theorem 1.

  The first step size is 1 / tau, with which Nash-MD forgets its start.
  """
  return lambda t: 2.0 / (tau * (t + 2.0))


@functools.lru_cache
def nash_md() -> Solver:
  """Nash-MD: a mirror step against the mixture with the reference.

  pi_mix ~ pi^(1 - eta tau) ref^(eta tau); pi+ ~ pi_mix exp(eta P(. > pi_mix)).
  With a constant step size the limit, where there is one, is a biased policy:
  the limit's mixture is the Nash equilibrium for tau / (1 - eta tau). Above
  1 / tau pi_mix isn't a mixture.

  Munos et al. 2023, arXiv:2312.00886, section 6, theorem 1.
  """

  def step(x, game, size):
    pull = size * game.tau
    mixed = jax.nn.log_softmax((1 - pull) * x + pull * game.log_reference)
    return mixed + size * game.wins(mixed)

  return _of_policies(
    step, lambda a, t, w: (1 - a * t) ** 2 * (1 + (a * w) ** 2)
  )


@functools.lru_cache
def online_mirror_descent() -> Solver:
  """Self-play mirror descent, the iteration of INPO.

  pi+ ~ pi^(1 - eta tau) ref^(eta tau) exp(eta P(. > pi)).

  Zhang et al. 2024, arXiv:2407.00617.
  """

  def step(x, game, size):
    pull = size * game.tau
    moved = (1 - pull) * x + pull * game.log_reference
    return moved + size * game.wins(x)

  return _of_policies(step, lambda a, t, w: (1 - a * t) ** 2 + (a * w) ** 2)


@functools.lru_cache
def multiplicative_weights() -> Solver:
  """pi+ ~ pi exp(eta P(. > pi)), SPPO's iteration, without a reference.

  In games with cycles the iterates spiral outward; their average converges to
  an equilibrium of the plain game.

  Wu et al. 2024, arXiv:2405.00675; Freund and Schapire 1999.
  """
  return _of_policies(
    lambda x, game, size: x + size * game.wins(x),
    lambda a, t, w: 1 + (a * w) ** 2,
  )


@functools.lru_cache
def extragradient() -> Solver:
  """EGPO: a trial step, then a step with the win rates against the trial.

  Zhou, Fazel, Du 2025, arXiv:2503.08942.
  """

  def step(x, game, size):
    pull = size * game.tau
    moved = (1 - pull) * x + pull * game.log_reference
    trial = jax.nn.log_softmax(moved + size * game.wins(x))
    return moved + size * game.wins(trial)

  def ratio(a, t, w):
    return (1 - a * t - (a * w) ** 2) ** 2 + (a * w * (1 - a * t)) ** 2

  return _of_policies(step, ratio)


@functools.lru_cache
def nash_mirror_prox() -> Solver:
  """Nash Mirror Prox: two steps, both implicit in the pull to the reference.

  With c = 1 / (1 + a tau), log pi_half = c (log pi + a tau log ref + a P pi);
  then log pi+ is the same with P pi_half in place of P pi. For a <= 2, each
  step multiplies KL(Nash, pi) by at most 1 / (1 + a tau), whatever the number
  of actions. The form is our reading of version 1 of the paper, and is
  consistent with the paper's rate.

  Tiapkin et al. 2025, arXiv:2505.19731v1.
  """

  def step(x, game, size):
    shrink = 1 / (1 + size * game.tau)
    pull = x + size * game.tau * game.log_reference
    half = jax.nn.log_softmax(shrink * (pull + size * game.wins(x)))
    return shrink * (pull + size * game.wins(half))

  def ratio(a, t, w):
    c = 1 / (1 + a * t)
    return c**2 * ((1 - c * (a * w) ** 2) ** 2 + (c * a * w) ** 2)

  return _of_policies(step, ratio)


@functools.lru_cache
def fictitious_play() -> Solver:
  """pi+ = (1 - eta) pi + eta BR(pi); classically eta_t = 1 / (t + 2).

  Brown 1951. In a regularised game BR is the regularised best response.
  """

  def step(x, game, size):
    return jnp.logaddexp(jnp.log1p(-size) + x, jnp.log(size) + game.response(x))

  return _of_policies(step)


@functools.lru_cache
def policy_gradient(mix_ref: float = 0.0) -> Solver:
  """Exact gradient ascent on the logits, against a frozen opponent.

  The opponent is the geometric mixture of the policy, with weight 1 - mix_ref,
  and the reference: mix_ref = 0 is self-play, mix_ref = 1 gives the best
  response to the reference. The method's rest point is
  reference * exp(P(. > opponent) / tau), up to normalisation, which is the Nash
  equilibrium only for mix_ref = 0.

  Munos et al. 2023, arXiv:2312.00886, section 7.
  """
  return _of_policies(
    lambda x, game, size: x + size * _ascent(x, game, mix_ref)
  )


def _mixture(x: Array, game: Game, mix_ref: float) -> Array:
  return jax.nn.log_softmax((1 - mix_ref) * x + mix_ref * game.log_reference)


def _ascent(x, game, mix_ref, opponent=None):
  if opponent is None:
    opponent = _mixture(x, game, mix_ref)
  gains = game.wins(opponent) - game.tau * (x - game.log_reference)
  policy = jnp.exp(x)
  return policy * (gains - policy @ gains)


@functools.lru_cache
def sampled_policy_gradient(batch: int = 64, mix_ref: float = 0.0) -> Solver:
  """`policy_gradient` estimated from `batch` pairs of the policy and opponent.

  The estimate is the mean of
  grad log pi(y) [P(y > y') - 1/2 - tau log(pi(y) / ref(y))].

  Munos et al. 2023, arXiv:2312.00886, section 7.
  """

  def step(x, game, size, key):
    ours, theirs = jax.random.split(key)
    y = jax.random.categorical(ours, x, shape=(batch,))
    mixed = _mixture(x, game, mix_ref)
    other = jax.random.categorical(theirs, mixed, shape=(batch,))
    gains = game.preferences[y, other] - 0.5
    gains = gains - game.tau * (x - game.log_reference)[y]
    counts = jnp.zeros_like(x).at[y].add(gains)
    ascent = (counts - gains.sum() * jnp.exp(x)) / batch
    return jax.nn.log_softmax(x + size * ascent)

  return Solver(lambda x: x, step, lambda x: x)


@functools.lru_cache
def nash_ema(decay: float = 0.999) -> Solver:
  """Exact gradient ascent against the moving average of the logits.

  To first order, averaging the parameters is averaging the policies.

  Munos et al. 2023, arXiv:2312.00886, section 7.
  """

  def step(state, game, size, key):
    x, average = state
    opponent = jax.nn.log_softmax(average)
    x = jax.nn.log_softmax(x + size * _ascent(x, game, 0.0, opponent))
    return x, decay * average + (1 - decay) * x

  return Solver(lambda x: (x, x), step, lambda state: state[0])
