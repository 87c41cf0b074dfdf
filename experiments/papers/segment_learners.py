"""Learners of policies and rewards from preferences between segments.

The losses are the library's. The labels are exact probabilities, which is the
limit of infinitely many answers, or shares of drawn answers.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.papers.gridworld import ALPHA, Mdp, Segments
from jalign import losses

# Too small to move an optimum; it decides where the labels leave a choice.
RIDGE = 1e-10


class Pairs(NamedTuple):
  """Pairs of segments to be compared, of T steps at most.

  Attributes:
    states: [B, 2, T + 1] states.
    actions: [B, 2, T] actions.
    mask: [B, 2, T] bool, False for steps past a segment's end.
    wins: [B] share of answers, or probability, that the first is preferred.
    weight: [B] share of the answers that are about this pair.
  """

  states: np.ndarray
  actions: np.ndarray
  mask: np.ndarray
  wins: np.ndarray
  weight: np.ndarray

  def values(self, table: np.ndarray) -> np.ndarray:
    """[B, 2, T] values at the steps of a table [S, A] or [S, A, S]."""
    at = (self.states[..., :-1], self.actions, self.states[..., 1:])
    return table[at[: table.ndim]] * self.mask

  def preferred(self, loss: Callable, table: np.ndarray) -> np.ndarray:
    """[B] P(first > second): exp(-loss) for the label 1."""
    with jax.enable_x64(True):
      sure = np.ones(len(self.wins))
      return np.exp(-np.asarray(loss(self.values(table), sure, self.mask)))

  def labelled(self, loss: Callable, table: np.ndarray) -> "Pairs":
    """The pairs with those probabilities as labels."""
    return self._replace(wins=self.preferred(loss, table))

  def answered(self, count: int, rng: np.random.Generator) -> "Pairs":
    """The pairs with `count` drawn answers in place of the probabilities."""
    asked = rng.multinomial(count, self.weight)
    firsts = rng.binomial(asked, self.wins)
    return self._replace(
      wins=firsts / np.maximum(asked, 1), weight=asked / count
    )


def draw_pairs(
  segments: Segments, count: int, rng: np.random.Generator
) -> Pairs:
  """Pairs of independent segments, not labelled yet."""
  rows = rng.choice(len(segments.law), (count, 2), p=segments.law)
  return Pairs(
    segments.states[rows],
    segments.actions[rows],
    segments.mask[rows],
    np.full(count, 0.5),
    np.full(count, 1 / count),
  )


def softmax(logits: np.ndarray) -> np.ndarray:
  """softmax over the last axis."""
  p = np.exp(logits - logits.max(-1, keepdims=True))
  return p / p.sum(-1, keepdims=True)


def _cpl(logps, pairs, bias):
  steps = logps[pairs.states[..., :-1], pairs.actions]
  rows = losses.cpl(steps, pairs.wins, pairs.mask, alpha=ALPHA, bias=bias)
  return pairs.weight @ rows


def _partial_return(table, pairs):
  at = (pairs.states[..., :-1], pairs.actions, pairs.states[..., 1:])
  steps = jnp.where(pairs.mask, table[at], 0.0)
  rows = losses.partial_return_preference(steps, pairs.wins, pairs.mask)
  return pairs.weight @ rows


def _minimum(value, start):
  """The minimum by L-BFGS, to a gradient of 1e-10 or for 1,000 steps."""
  optimizer = optax.lbfgs(memory_size=20)
  slope = optax.value_and_grad_from_state(value)

  def step(carry):
    x, state, count, _ = carry
    height, grad = slope(x, state=state)
    # The line search continues from the value and gradient found here.
    aux = {"value": height, "grad": grad, "value_fn": value}
    update, state = optimizer.update(grad, state, x, **aux)
    return optax.apply_updates(x, update), state, count + 1, jnp.abs(grad).max()

  carry = (start, optimizer.init(start), 0, jnp.asarray(jnp.inf))
  go_on = lambda carry: (carry[2] < 1000) & (carry[3] > 1e-10)
  return jax.lax.while_loop(go_on, step, carry)[0]


@functools.partial(jax.jit, static_argnames="bias")
def _cpl_logits(start, pairs, ridge, bias):
  value = lambda x: _cpl(jax.nn.log_softmax(x), pairs, bias)
  return _minimum(lambda x: value(x) + ridge * jnp.square(x).sum() / 2, start)


@jax.jit
def _reward(start, pairs, ridge):
  value = lambda x: _partial_return(x, pairs)
  return _minimum(lambda x: value(x) + ridge * jnp.square(x).sum() / 2, start)


@functools.partial(jax.jit, static_argnames="bias")
def _slope(logps, pairs, bias):
  return jax.value_and_grad(_cpl)(logps, pairs, bias)


def cpl_loss(
  logps: np.ndarray, pairs: Pairs, bias: float = 1.0
) -> tuple[float, np.ndarray]:
  """The mean loss of log-probs [S, A], and its gradient in their logits."""
  with jax.enable_x64(True):
    value, slope = _slope(np.asarray(logps), pairs, bias)
  slope = np.asarray(slope)
  return float(value), slope - np.exp(logps) * slope.sum(-1, keepdims=True)


def cpl_policy(
  start: np.ndarray, pairs: Pairs, bias: float = 1.0, ridge: float = RIDGE
) -> np.ndarray:
  """[S, A] probabilities of least CPL loss, found from logits `start`."""
  with jax.enable_x64(True):
    return softmax(np.asarray(_cpl_logits(start, pairs, ridge, bias)))


def learnt_reward(mdp: Mdp, pairs: Pairs) -> np.ndarray:
  """[S, A, S] reward, by Bradley-Terry on partial returns.

  The fit starts at 0, so what no pair shows, such as a constant, stays 0.
  """
  with jax.enable_x64(True):
    return np.asarray(_reward(np.zeros(mdp.rewards.shape), pairs, RIDGE))


def cloned_policy(mdp: Mdp, pairs: Pairs) -> np.ndarray:
  """[S, A] SFT on the winners: each action's share among the winners' steps."""
  counts = np.zeros(mdp.transitions.shape[:2])
  share = np.stack([pairs.wins, 1 - pairs.wins], 1) * pairs.weight[:, None]
  weight = share[..., None] * pairs.mask
  np.add.at(counts, (pairs.states[..., :-1], pairs.actions), weight)
  counts[mdp.ends] = 1
  return counts / counts.sum(-1, keepdims=True)
